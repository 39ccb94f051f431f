"""Grids of runs: what is varied, which runs that takes, and what they show."""
