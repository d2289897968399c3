"""Power cuts: `make powercut`, or `python -m tests.powercut`.

`kill -9` keeps the page cache, so it proves nothing about a disk. Here the gateway runs with a recorder
(`recorder.c`) that logs every write, truncation, rename, unlink, creation and fsync of its state directory, and what it
exchanges with the broker, in one order of events. Then the power is cut at any point of the log: `disk` knows what
is durable, and `remains` draws what is kept of the rest. The gateway's state is opened and drained on what is left
(`inspection`), and every message that was acknowledged before the cut must be there. docs/guarantees.md says what is
modelled.
"""
