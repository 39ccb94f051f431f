"""Mutated inputs for the ``marssep`` program."""
