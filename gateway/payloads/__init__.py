"""Payload formats: bytes -> records, one file a format. The format is declared by the rule, never guessed."""
