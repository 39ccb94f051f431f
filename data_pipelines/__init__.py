"""Data sets and training batches as dicts of NumPy arrays."""
