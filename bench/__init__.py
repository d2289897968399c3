"""Benchmarks of the gateway, as ratios taken in one run. `python -m bench --help`; see bench/README.md."""
