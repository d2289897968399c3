"""A startup's own view: live (SSE, WebSocket, MQTT) and history (HTTP)."""
