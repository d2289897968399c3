"""HTTP API. In: requests with a bearer token. Out: JSON, CSV, NDJSON and live events of one startup; metrics and
probes. Each subject has one file of routes.
"""
