"""The files in `state_dir`. In: whatever must survive a crash. Out: the same, after a crash."""
