"""From attention maps to masks: thresholds, dense CRF, affinities and a random walk, filters (arXiv 2503.07209)."""
