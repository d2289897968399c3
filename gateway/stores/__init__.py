"""Where readings live: the contract and its implementations, InfluxDB and the embedded SQLite default."""
