"""What pictures are of: one frozen object with a name for each domain."""
