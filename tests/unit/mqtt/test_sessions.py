"""All sessions of a gateway: which there are, what they are named, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import mqtt5
import pytest

from gateway.config import Mqtt
from gateway.model import Batch, cut_of
from gateway.mqtt import mqtt5 as mqtt5_module
from gateway.mqtt import sessions as sessions_module
from gateway.mqtt import unrouted
from gateway.mqtt.session import Access, Source
from gateway.mqtt.session_plan import ALL
from gateway.mqtt.sessions import Sessions
from tests.builders import session_plan
from tests.servers import eventually, keep_waiting
from tests.unit.mqtt.fake_broker import FakeBroker

WANTED = {"acme": ["testbed/acme/#"], "bolt": ["testbed/bolt/#"]}


@asynccontextmanager
async def running(
    broker: FakeBroker,
    wanted: Mapping[str, Sequence[str]] = WANTED,
    known: Mapping[str, Sequence[str]] | None = None,
    *,
    looks: bool = False,
    host: str | None = None,
) -> AsyncIterator[Sessions]:
    access = Access.of(Mqtt.model_validate({"url": broker.url, "protocol": "5", "client_id": "gw"}))
    sessions = Sessions(access, session_plan(wanted, looks=looks), known or {}, host=host)
    task = asyncio.create_task(sessions.run())
    try:
        await eventually(lambda: sessions.state.connected)
        yield sessions
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def connects(broker: FakeBroker) -> dict[str, mqtt5.ConnectPacket]:
    """The CONNECTs by client id; the newest counts."""
    return {packet.client_id: packet for packet in broker.of(mqtt5.ConnectPacket)}


def patterns(broker: FakeBroker) -> list[list[str]]:
    return [[one.pattern for one in packet.topic_filters] for packet in broker.of(mqtt5.SubscribePacket)]


async def test_each_startup_has_a_session_of_its_own() -> None:
    """The client ids are those of the startups, and one for what is published, which the broker need not keep."""
    async with FakeBroker() as broker, running(broker):
        found = connects(broker)
        assert {name: packet.clean_start for name, packet in found.items()} == {
            "gw.acme": False,
            "gw.bolt": False,
            "gw._gateway": True,
        }
        assert sorted(patterns(broker)) == [["testbed/acme/#"], ["testbed/bolt/#"]]


async def test_one_session_for_all() -> None:
    """A broker that grants one connection only sees one, under the client id itself."""
    async with FakeBroker() as broker, running(broker, {ALL: ["testbed/#"]}) as sessions:
        assert list(connects(broker)) == ["gw"]
        assert sessions.publish("feeds/acme/a/x", b"{}")


async def test_reload_opens_changes_and_ends_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new startup gets a session, changed filters are subscribed to on the live one, and the session of a removed
    startup drops its filters, brings what the broker holds, and then ends for good."""
    monkeypatch.setattr(sessions_module, "IDLE_AFTER", 0.1)
    async with FakeBroker() as broker, running(broker) as sessions:
        sessions.use(session_plan({"acme": ["testbed/acme/#", "lora/+"], "cord": ["testbed/cord/#"]}))
        await eventually(lambda: "gw.cord" in connects(broker))
        await eventually(lambda: ["lora/+"] in patterns(broker))
        await eventually(lambda: any(one.patterns == ["testbed/bolt/#"] for one in broker.of(mqtt5.UnsubscribePacket)))
        await eventually(lambda: "bolt" not in sessions.states)
        assert [one.session_expiry_interval for one in broker.of(mqtt5.DisconnectPacket)] == [0]
        assert sorted(sessions.filters()) == ["acme", "cord"]
        assert len([one for one in broker.of(mqtt5.ConnectPacket) if one.client_id == "gw.acme"]) == 1


async def test_larger_quota_lets_larger_messages_in() -> None:
    """A reload that permits a startup more than a session takes opens the sessions anew, and they take it."""
    async with FakeBroker() as broker, running(broker) as sessions:
        before = len(broker.of(mqtt5.ConnectPacket))
        sessions.use(replace(session_plan(WANTED), max_packet=3 << 20))
        await eventually(lambda: len(broker.of(mqtt5.ConnectPacket)) == before + 2 and sessions.state.connected)
        broker.send(mqtt5.PublishPacket("testbed/acme/a/x", bytes(2 << 20)), to="gw.acme")
        await eventually(lambda: "acme" in sessions.ready)
        batch = sessions.ready["acme"].take(10)
        assert batch is not None
        assert [(len(message.payload), cut_of(message)) for message in batch.messages] == [(2 << 20, 0)]


async def test_startup_that_comes_back_keeps_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """A startup that is removed and added again at once is subscribed to again, and its session does not end."""
    monkeypatch.setattr(sessions_module, "IDLE_AFTER", 0.5)
    async with FakeBroker() as broker, running(broker) as sessions:
        sessions.use(session_plan({"acme": WANTED["acme"]}))
        sessions.use(session_plan(WANTED))
        await eventually(lambda: patterns(broker).count(["testbed/bolt/#"]) == 2)
        await keep_waiting(asyncio.ensure_future(asyncio.Event().wait()))
        assert sessions.states["bolt"].connected
        assert broker.of(mqtt5.DisconnectPacket) == []


async def test_session_that_another_worker_takes_over_is_kept() -> None:
    """The session of a startup that moves to another worker is disconnected, and keeps its filters at the broker."""
    async with FakeBroker() as broker, running(broker) as sessions:
        sessions.use(session_plan({"acme": WANTED["acme"]}, {"bolt": WANTED["bolt"]}))
        await eventually(lambda: len(broker.of(mqtt5.DisconnectPacket)) == 1)
        assert broker.of(mqtt5.DisconnectPacket)[0].session_expiry_interval is None
        assert broker.of(mqtt5.UnsubscribePacket) == []
        assert list(sessions.filters()) == ["acme"]


WITHOUT_BOLT = session_plan({"acme": WANTED["acme"]}, {"bolt": WANTED["bolt"]})


async def taken(broker: FakeBroker, sessions: Sessions) -> tuple[Source, Batch]:
    """Send a message to bolt's session, and take it as ingest does."""
    broker.send(mqtt5.PublishPacket("testbed/bolt/a/x", b"1", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=1), to="gw.bolt")
    await sessions.arrived()
    source = sessions.ready.pop("bolt")
    batch = source.take(10)
    assert batch is not None
    return source, batch


async def test_a_session_is_left_once_all_that_it_brought_is_acknowledged() -> None:
    """Nothing is delivered again to whoever has the session next, and nothing more is received here."""
    async with FakeBroker() as broker, running(broker) as sessions:
        source, batch = await taken(broker, sessions)
        sessions.use(WITHOUT_BOLT)
        broker.send(mqtt5.PublishPacket("testbed/bolt/a/x", b"2"), to="gw.bolt")
        source.resume()
        await keep_waiting(*(task for task in asyncio.all_tasks() if task.get_name() == "session-bolt-leaves"))
        assert sessions.states["bolt"].connected
        assert not sessions.ready
        source.ack(batch)
        await eventually(lambda: broker.of(mqtt5.DisconnectPacket), says="the session is left")
        assert [one.packet_id for one in broker.of(mqtt5.PubAckPacket)] == [1]
        assert not sessions.is_retiring


async def test_a_session_is_left_after_a_while_whatever_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full must not keep a startup here: what is not acknowledged is delivered to the other host."""
    monkeypatch.setattr(sessions_module, "LEAVE_WITHIN", 0.1)
    async with FakeBroker() as broker, running(broker) as sessions:
        await taken(broker, sessions)
        sessions.use(WITHOUT_BOLT)
        await eventually(lambda: broker.of(mqtt5.DisconnectPacket), says="the session is left")
        assert broker.of(mqtt5.PubAckPacket) == []


async def test_a_session_that_is_left_does_not_connect_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other host may have it already: a connection that is lost meanwhile is the end of it here."""
    monkeypatch.setattr(sessions_module, "LEAVE_WITHIN", 0.5)
    async with FakeBroker() as broker, running(broker) as sessions:
        await taken(broker, sessions)
        sessions.use(WITHOUT_BOLT)
        broker.drop(of="gw.bolt")
        await eventually(lambda: "bolt" not in sessions.states)
        assert [one.client_id for one in broker.of(mqtt5.ConnectPacket)].count("gw.bolt") == 1


async def test_a_startup_that_comes_back_while_it_is_left_connects_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A move that is taken back at once does not wait for what was under way: the broker delivers that again."""
    monkeypatch.setattr(sessions_module, "TAKE_AFTER", 0.05)
    async with FakeBroker() as broker, running(broker) as sessions:
        await taken(broker, sessions)
        sessions.use(WITHOUT_BOLT)
        sessions.use(WITHOUT_BOLT)
        sessions.use(session_plan(WANTED))
        await eventually(lambda: [one.client_id for one in broker.of(mqtt5.ConnectPacket)].count("gw.bolt") == 2)
        await eventually(lambda: sessions.states["bolt"].connected)
        assert broker.of(mqtt5.UnsubscribePacket) == []


async def test_a_session_of_another_host_is_taken_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other host, which has read the change at the same time, first lets go of it; a new startup is not delayed."""
    monkeypatch.setattr(sessions_module, "TAKE_AFTER", 3600.0)
    async with FakeBroker() as broker, running(broker, {}) as sessions:
        sessions.use(WITHOUT_BOLT)
        sessions.use(session_plan({**WANTED, "cord": ["testbed/cord/#"]}))
        await eventually(lambda: {"gw.acme", "gw.cord"} <= connects(broker).keys())
        assert "gw.bolt" not in connects(broker)
        assert sessions.problems["bolt"] == "not connected yet"


async def test_session_with_unacknowledged_messages_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that is no longer wanted ends only when all that it brought is acknowledged, however long it takes."""
    monkeypatch.setattr(sessions_module, "IDLE_AFTER", 0.05)
    async with FakeBroker() as broker, running(broker) as sessions:
        packet = mqtt5.PublishPacket("testbed/bolt/a/x", b"1", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=1)
        broker.send(packet, to="gw.bolt")
        await sessions.arrived()
        source = sessions.ready.pop("bolt")
        batch = source.take(10)
        assert batch is not None
        sessions.use(session_plan({"acme": WANTED["acme"]}))
        source.resume()
        await eventually(lambda: any(one.patterns == ["testbed/bolt/#"] for one in broker.of(mqtt5.UnsubscribePacket)))
        waiting = [task for task in asyncio.all_tasks() if task.get_name() == "session-bolt-retires"]
        await asyncio.wait(waiting, timeout=0.3)
        assert "bolt" in sessions.states
        source.ack(batch)
        await eventually(lambda: "bolt" not in sessions.states)


async def test_retiring_session_that_another_worker_takes_over_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A startup that is removed and comes back at another worker is left to that: its session is not ended."""
    monkeypatch.setattr(sessions_module, "IDLE_AFTER", 0.2)
    async with FakeBroker() as broker, running(broker) as sessions:
        sessions.use(session_plan({"acme": WANTED["acme"]}))
        sessions.use(session_plan({"acme": WANTED["acme"]}, {"bolt": WANTED["bolt"]}))
        await eventually(lambda: len(broker.of(mqtt5.DisconnectPacket)) == 1)
        assert broker.of(mqtt5.DisconnectPacket)[0].session_expiry_interval is None
        assert not sessions.is_retiring


async def test_session_of_an_earlier_run_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A startup that was removed while the gateway was away leaves no session that fills up at the broker."""
    monkeypatch.setattr(sessions_module, "IDLE_AFTER", 0.1)
    known = {"gone": ["testbed/gone/#"], "acme": ["testbed/acme/#", "old/+"]}
    async with FakeBroker() as broker, running(broker, known=known) as sessions:
        await eventually(lambda: not sessions.is_retiring)
        assert sorted(one.patterns for one in broker.of(mqtt5.UnsubscribePacket)) == [["old/+"], ["testbed/gone/#"]]
        assert sorted(sessions.filters()) == ["acme", "bolt"]
        assert connects(broker)["gw.gone"].clean_start is False


async def test_problem_names_the_sessions_that_have_it() -> None:
    """A filter that the broker rejects to one startup is reported with that startup; the others stay connected."""
    async with FakeBroker() as broker, running(broker) as sessions:
        broker.suback = mqtt5.SubAckReasonCode.NOT_AUTHORIZED
        sessions.use(session_plan({**WANTED, "bolt": ["testbed/bolt/#", "zigbee/+"]}))
        await eventually(
            lambda: "session bolt: the broker rejected the subscription to zigbee/+" in sessions.state.problem
        )
        assert sessions.states["acme"].connected
        await eventually(lambda: not sessions.problem)
        assert {slug for slug, problem in sessions.problems.items() if problem} == {"bolt"}


async def test_sessions_of_single_startups_are_nobody_elses_problem() -> None:
    """At the start all sessions are waited for, until each is connected or has failed."""
    async with FakeBroker() as broker:
        broker.suback = mqtt5.SubAckReasonCode.NOT_AUTHORIZED
        access = Access.of(Mqtt.model_validate({"url": broker.url, "protocol": "5", "client_id": "gw"}))
        sessions = Sessions(access, session_plan(WANTED), {})
        assert sessions.problem == "not connected yet"
        task = asyncio.create_task(sessions.run())
        try:
            await eventually(lambda: not sessions.problem)
            assert all("rejected the subscription" in problem for problem in sessions.problems.values())
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_held_source_comes_back_by_itself() -> None:
    """A source that is held back is not ready for a while, although it has messages."""
    async with FakeBroker() as broker, running(broker, {"acme": ["testbed/acme/#"]}) as sessions:
        broker.send(mqtt5.PublishPacket("testbed/acme/a/x", b"1"), to="gw.acme")
        assert await sessions.arrived()
        sessions.hold("acme", 0.05)
        assert not sessions.ready
        assert await sessions.arrived()
        batch = sessions.ready["acme"].take(10)
        assert batch is not None
        assert [message.payload for message in batch.messages] == [b"1"]


async def test_look_brings_what_belongs_to_nobody() -> None:
    """The look passes on messages whose slug no startup has, with QoS 0, and drops the copies of all others."""
    async with FakeBroker() as broker, running(broker, looks=True) as sessions:
        await eventually(lambda: ["testbed/#"] in patterns(broker))
        look = connects(broker)["gw._look"]
        assert (look.clean_start, look.session_expiry_interval) == (True, 0)
        for topic in ("testbed/acme/a/x", "testbed/acmme/a/x", "testbed"):
            broker.send(mqtt5.PublishPacket(topic, b"1"), to="gw._look")
        taken: list[str] = []

        async def both() -> bool:
            if await sessions.arrived() and (batch := sessions.ready["_look"].take(10)):
                taken.extend(message.topic for message in batch.messages)
            sessions.ready.pop("_look", None)
            return len(taken) >= 2

        await eventually(both)
        assert taken == ["testbed/acmme/a/x", "testbed"]


async def test_look_ends_while_it_would_be_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above its bound the look gives up its connection for a while, and comes back."""
    monkeypatch.setattr(unrouted, "MAX_MESSAGES", 5)
    monkeypatch.setattr(unrouted, "SECOND", 0.05)
    monkeypatch.setattr(unrouted, "PAUSE", 0.05)
    async with FakeBroker() as broker, running(broker, looks=True) as sessions:
        await eventually(lambda: ["testbed/#"] in patterns(broker))
        broker.send(*[mqtt5.PublishPacket("testbed/acme/a/x", b"1")] * 10, to="gw._look")
        await sessions.arrived()
        sessions.ready.pop("_look").take(100)
        await eventually(lambda: patterns(broker).count(["testbed/#"]) == 2, says="it looks again")


SHARED = "$share/gw/testbed/acme/#"


def order(broker: FakeBroker, client_id: str) -> list[str]:
    """Return the kinds of packets after the newest CONNECT of a client id, as far as they are about filters."""
    start = max(i for i, one in enumerate(broker.packets) if getattr(one, "client_id", "") == client_id)
    kinds = (mqtt5.SubscribePacket, mqtt5.UnsubscribePacket)
    return [type(one).__name__ for one in broker.packets[start:] if isinstance(one, kinds)]


async def test_each_host_publishes_by_a_session_of_its_own() -> None:
    """The names of all others are those that the other hosts use, too."""
    async with FakeBroker() as broker, running(broker, host="north"):
        assert set(connects(broker)) == {"gw.acme", "gw.bolt", "gw._gateway.north"}


async def test_a_session_that_is_left_keeps_what_the_other_host_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host that gives a startup away drops the filters that it no longer has, since the other one does not know
    of them; the others stay at the broker, whichever form they have there."""
    wanted = {"acme": ["testbed/acme/#", "lora/+"]}
    async with FakeBroker() as broker, running(broker, wanted, host="north") as sessions:
        before = len(broker.of(mqtt5.UnsubscribePacket))
        sessions.use(session_plan({}, {"acme": [SHARED]}))
        await eventually(lambda: len(broker.of(mqtt5.DisconnectPacket)) == 1)
        assert [one.patterns for one in broker.of(mqtt5.UnsubscribePacket)[before:]] == [["lora/+"]]
        assert broker.of(mqtt5.DisconnectPacket)[0].session_expiry_interval is None
        assert not sessions.is_retiring


async def test_a_session_that_is_taken_over_loses_its_other_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that gets a startup from several hosts cannot know that they had a shared subscription: it drops that,
    once its own is there, so that nothing is missed in between, and then makes sure of its own, at once and a little
    later: RMQTT drops both, and may do so after it has answered everything."""
    monkeypatch.setattr(mqtt5_module, "SUBSCRIBE_AGAIN_AFTER", 0.05)
    expected = ["SubscribePacket", "UnsubscribePacket", "SubscribePacket", "SubscribePacket"]
    async with FakeBroker() as broker, running(broker, {"acme": ["testbed/acme/#"]}, host="north"):
        await eventually(lambda: order(broker, "gw.acme")[-4:] == expected)
        assert [SHARED] in [one.patterns for one in broker.of(mqtt5.UnsubscribePacket)]


async def test_a_session_that_a_host_had_before_is_not_disturbed() -> None:
    """A host that starts again knows which filters its session has: at RMQTT, dropping one that is not there would drop
    the one that is, for as long as it takes to subscribe again."""
    known = {"acme": ["testbed/acme/#"]}
    async with FakeBroker() as broker, running(broker, {"acme": ["testbed/acme/#"]}, known, host="north") as sessions:
        await eventually(lambda: ["testbed/acme/#"] in patterns(broker))
        sessions.use(session_plan({"acme": ["testbed/acme/#", "lora/+"]}))
        await eventually(lambda: ["lora/+"] in patterns(broker))
        assert broker.of(mqtt5.UnsubscribePacket) == []


async def test_a_startup_becomes_shared() -> None:
    """Its session connects anew, since the broker is asked first, then subscribes, and then drops its plain filter."""
    async with FakeBroker() as broker, running(broker, {"acme": ["testbed/acme/#"]}, host="north") as sessions:
        sessions.use(session_plan({"acme": [SHARED]}))
        await eventually(lambda: [SHARED] in patterns(broker))
        await eventually(
            lambda: ["testbed/acme/#"] in [one.patterns for one in broker.of(mqtt5.UnsubscribePacket)],
            says="the plain filter is dropped",
        )
        assert [one.client_id for one in broker.of(mqtt5.ConnectPacket)].count("gw.acme") == 2
        await eventually(lambda: sessions.state.connected)


async def test_a_broker_that_cannot_share_is_rejected() -> None:
    """Nothing is subscribed to, and the state says why; the other sessions work."""
    wanted = {"acme": [SHARED], "bolt": WANTED["bolt"]}
    async with FakeBroker() as broker:
        broker.connack = mqtt5.ConnAckPacket(shared_subscription_available=False)
        access = Access.of(Mqtt.model_validate({"url": broker.url, "protocol": "5", "client_id": "gw"}))
        sessions = Sessions(access, session_plan(wanted), {}, host="north")
        task = asyncio.create_task(sessions.run())
        await eventually(lambda: "session acme: " in sessions.state.problem)
        assert "has no shared subscriptions" in sessions.state.problem
        assert [SHARED] not in patterns(broker)
        await eventually(lambda: sessions.states["bolt"].connected)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_look_is_passed_on() -> None:
    """A host that becomes the first begins to look, and one that no longer is ends it."""
    async with FakeBroker() as broker, running(broker, host="north") as sessions:
        assert "gw._look" not in connects(broker)
        sessions.use(session_plan(WANTED, looks=True))
        await eventually(lambda: ["testbed/#"] in patterns(broker))
        sessions.use(session_plan(WANTED))
        await eventually(lambda: len(broker.of(mqtt5.DisconnectPacket)) == 1)
