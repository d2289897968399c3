"""The MQTT feed: the topic of each event, and events without one."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.feeds.mqtt_feed import MqttFeed
from gateway.metrics import Metrics
from gateway.model import UNROUTED, Code, Reason, Rejection
from gateway.topics import MAX_TOPIC_BYTES


class Published:
    """A session that notes the topics of what it publishes."""

    def __init__(self) -> None:
        self.topics: list[str] = []

    def publish(self, topic: str, _payload: bytes, *, qos: int = 0) -> bool:
        assert qos == 1
        self.topics.append(topic)
        return True


def rejection(device: str, startup: str = "acme") -> Rejection:
    reason = Reason(Code.NO_RULE, "topic", "a topic that a rule matches", "another")
    return Rejection(startup, device, f"testbed/{startup}/{device}", b"x", 1, (reason,))


def feedback(*rejections: Rejection) -> list[str]:
    """Return the topics of the feedback on these."""
    session: Any = Published()
    MqttFeed(session, Metrics(), readings=True).rejected(rejections)
    topics: list[str] = session.topics
    return topics


LONGEST = MAX_TOPIC_BYTES - len("feedback/acme/")


@pytest.mark.parametrize("device", ["th-1", "a b", "Gerät", "d" * LONGEST])
def test_feedback_goes_to_the_device(device: str) -> None:
    """Feedback has the device's own topic, also for a name that is legal in MQTT and not in the gateway."""
    assert feedback(rejection(device)) == [f"feedback/acme/{device}"]


@pytest.mark.parametrize(
    "device", ["", "a+b", "a#", "a/b", "a\0b", "a\x1bb", "a\ufffe", "d" * (LONGEST + 1), "é" * (LONGEST // 2 + 1)]
)
def test_devices_without_a_topic_get_no_feedback(device: str) -> None:
    """A name that makes no topic, or one that is longer than MQTT allows, is skipped; the feed goes on."""
    assert feedback(rejection(device), rejection("th-1")) == ["feedback/acme/th-1"]


def test_a_message_of_no_startup_gets_no_feedback() -> None:
    """Messages on a topic of no startup have no device that could hear feedback."""
    assert feedback(rejection("x", UNROUTED)) == []
