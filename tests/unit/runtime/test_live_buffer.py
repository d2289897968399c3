"""Live events that a worker keeps until they are sent."""

from __future__ import annotations

from gateway.model import Reading
from gateway.runtime.live_buffer import MESSAGE, LiveBuffer
from gateway.runtime.worker_messages import LiveEvents
from tests.builders import rejection


def readings(*numbers: int) -> list[Reading]:
    return [Reading("acme", "d", "m", {}, {"n": number}, number) for number in numbers]


def test_batches_are_sent_together() -> None:
    """Several batches become one message, in order; then the buffer is empty."""
    buffer = LiveBuffer(10)
    buffer.accepted({"acme": readings(1, 2)})
    buffer.rejected([rejection(b"a")])
    buffer.accepted({"acme": readings(3), "beta": readings(4)})
    buffer.rejected([rejection(b"b")])
    events = buffer.take()
    assert events == LiveEvents(
        {"acme": readings(1, 2, 3), "beta": readings(4)}, [rejection(b"a"), rejection(b"b")], {}
    )
    assert buffer.take() is None


def test_too_many_events_lose_the_oldest() -> None:
    """No more is kept than a feed keeps; the lost events of each startup are counted, once."""
    buffer = LiveBuffer(3)
    buffer.accepted({"acme": readings(1, 2)})
    buffer.rejected([rejection(b"%d" % n, "beta") for n in range(5)])
    buffer.accepted({"acme": readings(3, 4, 5, 6, 7)})
    events = buffer.take()
    assert events is not None
    assert events.readings == {"acme": readings(5, 6, 7)}
    assert [one.payload for one in events.rejections] == [b"2", b"3", b"4"]
    assert events.missed == {"acme": 4, "beta": 2}
    buffer.accepted({"acme": readings(8)})
    assert buffer.take() == LiveEvents({"acme": readings(8)}, [], {})


def test_one_startup_does_not_push_out_the_events_of_another() -> None:
    """Rejections of one startup, however many and long, cost another none of its own; a message stays small."""
    buffer = LiveBuffer(1000)
    buffer.rejected([rejection(b"mine", "beta")])
    buffer.rejected([rejection(b"x", topic="t" * 60_000) for _ in range(1500)])
    buffer.rejected([rejection(b"x", "gamma", topic="t" * 60_000) for _ in range(1500)])
    buffer.accepted({"delta": readings(1)})
    messages = []
    while events := buffer.take():
        assert sum(len(one.topic) for one in events.rejections) <= 2 * MESSAGE
        messages.append(events)
    assert len(messages) > 1
    found = [one for events in messages for one in events.rejections]
    assert [one.payload for one in found if one.startup == "beta"] == [b"mine"]
    assert [events.readings for events in messages if events.readings] == [{"delta": readings(1)}]
    missed = {startup: lost for events in messages for startup, lost in events.missed.items()}
    assert missed["acme"] == 1500 - sum(one.startup == "acme" for one in found) > 1000
    assert "beta" not in missed
