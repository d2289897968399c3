"""The parts that every session is made of: link, inbox, subscriptions."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from gateway.errors import SessionError
from gateway.model import Message
from gateway.mqtt.broker import Broker
from gateway.mqtt.inbox import Inbox
from gateway.mqtt.link import BrokerLink
from gateway.mqtt.subscriptions import Subscriptions
from tests.servers import keep_waiting

BROKER = Broker("broker.example", 1883)


async def test_new_connection_drops_what_the_broker_delivers_again() -> None:
    """Of the messages that the last connection left, those of QoS 0 stay; nothing is left to acknowledge."""
    inbox = Inbox()
    inbox.begin(1)
    inbox.messages += [Message("a", b"kept"), Message("a", b"delivered again", qos=1)]
    inbox.packet_ids.append(7)
    inbox.arrived(1)
    inbox.begin(2)
    inbox.close()
    batch = await inbox.take()
    assert batch is not None
    assert ([one.payload for one in batch.messages], batch.packet_ids, batch.connection) == ([b"kept"], [], 2)
    assert await inbox.take() is None


async def test_reader_waits_for_messages_and_not_for_reads_without_any() -> None:
    """A read that brought no messages wakes nobody."""
    inbox = Inbox()
    taking = asyncio.ensure_future(inbox.take())
    inbox.arrived(1)
    await keep_waiting(taking)
    inbox.messages.append(Message("a", b"x"))
    inbox.arrived(2)
    batch = await taking
    assert batch is not None
    assert batch.arrived_ns == 2


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
    link = BrokerLink(BROKER, "5")
    with capture_logs() as lines:
        for problem in ("nobody answers", "nobody answers", "refused"):
            link.failed(SessionError(problem))
    assert [line["problem"] for line in lines] == ["nobody answers", "refused"]
    assert link.state.problem == "refused"


async def test_pauses_grow_until_a_connection_has_lasted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures in a row wait ever longer; after a connection that has lasted the first pause is short again."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr("random.uniform", lambda _low, high: high)
    link = BrokerLink(BROKER, "5")
    await link.pause()
    await link.pause()
    link.connected()
    await link.pause()
    monkeypatch.setattr("gateway.mqtt.link.LASTING", -1.0)
    link.connected()
    await link.pause()
    assert pauses == [0.2, 0.4, 0.8, 0.2]
