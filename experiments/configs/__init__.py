"""Experiments as files: each opens with its command, time and score."""
