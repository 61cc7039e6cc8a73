"""Readers, datasets, splits and the text side of the data."""
