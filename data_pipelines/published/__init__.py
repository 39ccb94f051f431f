"""Benchmarks that others published: their lists, and mixtures of a user's audio.

- `plans`: what a list asks for; `clean_plus` and `local_lists` read the lists.
- `recordings`, `frames`: find and read what a user has of it.
- `benchmarks`: the protocols by name.
- `mixtures`: gains, hashes and queries of the mixtures that can be made.
- `catalogues`, `preparation`: a prepared data set with its manifest.
"""
