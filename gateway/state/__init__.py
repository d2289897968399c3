"""What the gateway keeps in `state_dir`. In: what must survive a crash. Out: the same, after a crash."""
