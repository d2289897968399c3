"""What a worker keeps for the live feeds until it is told."""

from __future__ import annotations

from gateway.model import Reading
from gateway.runtime.live_buffer import LiveBuffer
from gateway.runtime.worker_messages import Shown
from tests.builders import rejection


def readings(*numbers: int) -> list[Reading]:
    return [Reading("acme", "d", "m", {}, {"n": number}, number) for number in numbers]


def test_batches_are_told_together() -> None:
    """What came in several batches is one message, in order; then there is nothing."""
    showing = LiveBuffer(10)
    showing.add({"acme": readings(1, 2)}, [rejection(b"a")])
    showing.add({"acme": readings(3), "beta": readings(4)}, [rejection(b"b")])
    shown = showing.take()
    assert shown == Shown({"acme": readings(1, 2, 3), "beta": readings(4)}, [rejection(b"a"), rejection(b"b")], {})
    assert showing.take() is None


def test_too_much_loses_the_oldest_and_is_told() -> None:
    """No more is kept than a feed keeps; how many events of each startup went is told, once."""
    showing = LiveBuffer(3)
    showing.add({"acme": readings(1, 2)}, [rejection(b"%d" % n, "beta") for n in range(5)])
    showing.add({"acme": readings(3, 4, 5, 6, 7)}, [])
    shown = showing.take()
    assert shown is not None
    assert shown.readings == {"acme": readings(5, 6, 7)}
    assert [one.payload for one in shown.rejections] == [b"2", b"3", b"4"]
    assert shown.missed == {"acme": 4, "beta": 2}
    showing.add({"acme": readings(8)}, [])
    assert showing.take() == Shown({"acme": readings(8)}, [], {})
