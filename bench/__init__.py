"""How fast the gateway is, as ratios taken in one run. `python -m bench --help`; see bench/README.md."""
