"""Faults, a file for each kind."""
