"""The MQTT feeds: `feeds/{startup}/{device}/{measurement}` for readings, `feedback/{startup}/{device}` for errors in a
device's messages. A message that the session cannot take at once is dropped and counted: nothing waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic_core import to_json

from gateway.feeds.live_ring import reading_json, rejection_json
from gateway.metrics import Metrics
from gateway.model import UNROUTED, Readings, Rejection
from gateway.mqtt.session import Publisher
from gateway.topics import MAX_TOPIC_BYTES

_NOT_IN_A_TOPIC = frozenset("+#\0/")


class MqttFeed:
    """Publishes every startup's feed and feedback over a session of its own. `readings` False: only feedback."""

    def __init__(self, publisher: Publisher, metrics: Metrics, *, readings: bool) -> None:
        self._publisher = publisher
        self._metrics = metrics
        self._readings = readings

    def accepted(self, readings: Readings, /) -> None:
        """Publish each startup's readings on its feed."""
        if not self._readings:
            return
        for startup, several in readings.items():
            for reading in several:
                topic = f"feeds/{startup}/{reading.device}/{reading.measurement}"
                self._publish(topic, to_json(reading_json(reading)), qos=0)

    def rejected(self, rejections: Sequence[Rejection], /) -> None:
        """Publish to each device what was wrong with its messages."""
        for rejection in rejections:
            device, startup = rejection.device, rejection.startup
            topic = f"feedback/{startup}/{device}"
            if not device or startup == UNROUTED or _NOT_IN_A_TOPIC & set(device):
                continue
            if not device.isprintable():  # a broker may end the connection of everybody's feedback for a control
                continue  # character (MQTT 5.0, section 1.5.4), although another let the device use one
            if len(topic.encode()) <= MAX_TOPIC_BYTES:  # the device's own topic may be as long as MQTT allows
                self._publish(topic, to_json(rejection_json(rejection)), qos=1)

    def _publish(self, topic: str, payload: bytes, qos: int) -> None:
        if not self._publisher.publish(topic, payload, qos=qos):
            self._metrics.feed_dropped.inc()
