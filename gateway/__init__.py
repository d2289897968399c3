"""Testbed Gateway: from a device's MQTT message to a startup's live chart.

One way through, one batch at a time:

    session -> decode -> validate -> journal (fsync) -> ack -> drain -> store
                            |                     `-> listeners: live feeds, MQTT, counts
                            `-> dead letter (fsync) -> ack -> feedback to the device

See docs/architecture.md for the packages and layers, and docs/guarantees.md for the promises.
"""

__version__ = "0.1.0"
