"""Jobs that run long, write a manifest and resume."""
