"""Named paths, each of which measures one way through the gateway."""
