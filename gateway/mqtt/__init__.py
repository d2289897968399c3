"""MQTT in and out: the session contract, its implementations, and the embedded broker of the demo."""
