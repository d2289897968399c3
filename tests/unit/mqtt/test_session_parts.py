"""Parts that sessions are made of: link, inbox, outbox, subscriptions."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from gateway.errors import SessionError
from gateway.model import Message
from gateway.mqtt.broker import Broker
from gateway.mqtt.inbox import Inbox
from gateway.mqtt.link import BrokerLink
from gateway.mqtt.mqtt5_outbox import Outbox
from gateway.mqtt.subscriptions import Subscriptions
from tests.servers import eventually

BROKER = Broker("broker.example", 1883)


def test_new_connection_drops_what_the_broker_delivers_again() -> None:
    """Of the messages that the last connection left, those of QoS 0 stay; nothing is left to acknowledge."""
    inbox = Inbox(lambda: None)
    inbox.begin(1)
    inbox.messages += [Message("a", b"kept"), Message("a", b"delivered again", qos=1, packet_id=7)]
    inbox.arrived(1)
    inbox.begin(2)
    batch = inbox.take(10)
    assert batch is not None
    assert ([one.payload for one in batch.messages], batch.packet_ids, batch.connection) == ([b"kept"], [], 2)
    assert inbox.take(10) is None


def test_reads_without_messages_announce_nothing() -> None:
    """Whoever waits for messages is not woken by a read that brought none."""
    calls: list[int] = []
    inbox = Inbox(lambda: calls.append(1))
    inbox.arrived(1)
    assert calls == []
    inbox.messages.append(Message("a", b"x"))
    inbox.arrived(2)
    batch = inbox.take(10)
    assert batch is not None
    assert (len(calls), batch.arrived_ns) == (1, 2)


def test_messages_are_taken_in_order_up_to_a_limit() -> None:
    """What is put back comes again before the rest; of an earlier connection only messages of QoS 0."""
    inbox = Inbox(lambda: None)
    inbox.begin(1)
    inbox.messages += [Message("a", b"%d" % i, qos=i % 2, packet_id=i if i % 2 else None) for i in range(5)]
    first = inbox.take(4)
    assert first is not None
    done = inbox.put_back(first, 1)
    assert [one.payload for one in done.messages] == [b"0"]
    assert [one.payload for one in inbox.messages] == [b"1", b"2", b"3", b"4"]
    late = inbox.take(4)
    assert late is not None
    inbox.begin(2)
    inbox.put_back(late, 0)
    assert [one.payload for one in inbox.messages] == [b"2", b"4"]


def test_changed_filters_are_reported_as_new_and_removed() -> None:
    """A filter that comes back is wanted again; one that left while there was no connection stays unwanted."""
    filters = Subscriptions(["a", "b"], ["old"])
    assert filters.change(["b", "c"]) == (["c"], ["a"])
    assert filters.change(["b", "old"]) == (["old"], ["c"])
    assert (filters.wanted, sorted(filters.unwanted)) == (("b", "old"), ["a", "c"])


def test_suback_names_the_rejected_filters() -> None:
    """Each answer belongs to its own request; one for a request of an earlier connection rejects nothing."""
    filters = Subscriptions([], [])
    filters.asked(1, ["a", "b"])
    filters.asked(2, ["c"])
    assert filters.rejected(1, [False, True]) == ["b"]
    filters.begin()
    assert filters.rejected(2, [True]) == []


def test_problem_is_logged_once() -> None:
    """A problem that stays the same is one line in the log, however often the session tries."""
    link = BrokerLink(BROKER, "5", asyncio.Semaphore(), "gateway.acme")
    with capture_logs() as lines:
        for problem in ("nobody answers", "nobody answers", "rejected"):
            link.failed(SessionError(problem))
    assert [line["problem"] for line in lines] == ["nobody answers", "rejected"]
    assert link.state.problem == "rejected"


async def test_unexpected_error_is_the_connections_alone() -> None:
    """Whatever a connection raises, the session reports it and connects again: it must not end the gateway."""
    link = BrokerLink(BROKER, "5", asyncio.Semaphore(), "gateway.acme")
    tries: list[str] = []

    async def serve() -> None:
        tries.append(link.state.problem)
        raise RuntimeError("can't start new thread")

    async def detach() -> None:
        pass

    task = asyncio.create_task(link.keep_up(serve, detach))
    await eventually(lambda: len(tries) > 1)
    assert "can't start new thread" in tries[1]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_pauses_grow_until_a_connection_has_lasted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures in a row wait ever longer; after a connection that has lasted the first pause is short again."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr("random.uniform", lambda _low, high: high)
    link = BrokerLink(BROKER, "5", asyncio.Semaphore(), "gateway.acme")
    await link.pause()
    await link.pause()
    link.connected()
    await link.pause()
    monkeypatch.setattr("gateway.mqtt.link.LASTING", -1.0)
    link.connected()
    await link.pause()
    assert pauses == [0.2, 0.4, 0.8, 0.2]


def test_feedback_of_one_startup_leaves_room_for_others() -> None:
    """While the broker acknowledges nothing, what waits is bounded in bytes, and one startup cannot take all of it."""
    outbox = Outbox()
    outbox.receive_maximum = 20
    payload = bytes(50_000)
    sent = 0
    while outbox.put("feedback/acme/th-1", payload):
        sent += len(payload)
        list(outbox.ready())
    assert 7 << 20 < sent < 8 << 20
    assert outbox.put("feedback/birch/th-1", payload)
    for ident in range(1, 4):
        outbox.acknowledged(ident)
    assert outbox.put("feedback/acme/th-1", payload)


def test_messages_that_no_longer_fit_leave_their_room() -> None:
    """A broker that takes only small packets on the next connection: what is dropped makes room."""
    outbox = Outbox()
    payload = bytes(50_000)
    for _ in range(3):
        while outbox.put("feedback/acme/th-1", payload):
            pass
        assert list(outbox.ready())
        outbox.max_packet = 1000
        assert not list(outbox.again(session_present=True))
        outbox.max_packet = None
    assert outbox.put("feedback/acme/th-1", payload)


def test_a_lower_receive_maximum_holds_for_what_is_sent_again() -> None:
    """A broker that permits fewer messages under way than before gets no more of them at once; the rest follows."""
    outbox = Outbox()
    for number in range(5):
        assert outbox.put(f"feedback/acme/d{number}", b"x")
    assert len(list(outbox.ready())) == 5
    outbox.receive_maximum = 2
    assert len(list(outbox.again(session_present=True))) == 2
    assert list(outbox.ready()) == []
    left = [outbox.acknowledged(ident) for ident in (1, 2)]
    assert [topic for topic, _ in filter(None, left)] == ["feedback/acme/d0", "feedback/acme/d1"]
    assert [packet[4:20] for packet in outbox.ready()] == [b"feedback/acme/d2", b"feedback/acme/d3"]


def test_filters_that_differ_in_the_group_only_are_found() -> None:
    """A session that goes from `$share/g/x` to `x` has to subscribe to `x` once more: RMQTT drops both."""
    filters = Subscriptions(["testbed/acme/#", "lora/+/up"], [])
    assert filters.same_as(["$share/gateway/testbed/acme/#", "old/#"]) == ["testbed/acme/#"]
    assert filters.same_as(["old/#"]) == []
