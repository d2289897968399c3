"""Composition: a gateway as one process, or as a supervisor with several workers; reload, and Python's own tuning."""
