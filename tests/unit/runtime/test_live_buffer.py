"""The live events that a worker keeps until they are sent."""

from __future__ import annotations

from gateway.model import Reading
from gateway.runtime.live_buffer import LiveBuffer
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
