"""The named paths: each measures one way through the gateway."""
