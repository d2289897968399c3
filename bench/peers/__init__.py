"""What others would use in the gateway's place, on the same broker and the same InfluxDB."""
