"""Shared by the harnesses that run scenarios by name: `make attack`, `make crash`."""
