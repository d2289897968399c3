"""Several processes for one gateway: workers that share the messages, and a front that people and programs look at."""
