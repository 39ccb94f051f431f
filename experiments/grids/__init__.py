"""Grids as files: each opens with its command, its time and what was measured."""
