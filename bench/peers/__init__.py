"""Alternatives to the gateway, on the same broker and the same InfluxDB."""
