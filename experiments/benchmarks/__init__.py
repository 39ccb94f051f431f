"""Timings of this package, each against a named reference in the same process."""
