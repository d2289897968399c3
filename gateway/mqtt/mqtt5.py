"""The session for brokers that speak MQTT 5, on the codec of mqtt5: one read of the socket is one batch.

What is delivered and not acknowledged is bounded by Receive Maximum; a batch is acknowledged in one write; while nobody
takes batches, nothing is read. It subscribes with QoS 1 at most (docs/decisions/0003-qos-1-at-most.md).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import SupportsInt

import mqtt5
from mqtt5 import PublishPacket

from gateway.backoff import LASTING, pauses
from gateway.config import Mqtt
from gateway.errors import BrokerRefused, SessionError
from gateway.logs import get_logger
from gateway.model import Batch, Publish
from gateway.mqtt.broker import Broker, read_password, refusal_advice, refused_subscription
from gateway.mqtt.mqtt5_connection import Connection, pubacks
from gateway.mqtt.mqtt5_decoder import Packet, Salvaged
from gateway.mqtt.mqtt5_outbox import Outbox
from gateway.mqtt.session import SessionState, now_state

ANSWER_WITHIN = 10.0
CLOSE_WITHIN = 2.0
VERSION = "5"
_ONLY_MESSAGES = {PublishPacket}

log = get_logger(__name__)


class Mqtt5Session:
    """Implements `gateway.mqtt.session.Session`."""

    def __init__(self, settings: Mqtt, filters: Sequence[str], unwanted: Sequence[str] = ()) -> None:
        self._unwanted = list(unwanted)
        self._settings = settings
        self._broker = Broker.of(settings)
        self._filters = tuple(filters)
        self._state = now_state(connected=False, problem="not connected yet")
        self._connection: Connection | None = None
        self._connections = 0
        self._greeted = 0
        self._forgets = False
        self._arrived: list[Publish] = []
        self._packet_ids: list[int] = []
        self._arrived_ns = 0
        self._something = asyncio.Event()
        self._stopped = False
        self._outbox = Outbox()
        self._asked: dict[int, tuple[str, ...]] = {}
        self._answer: asyncio.Future[None] | None = None
        self._keep_alive_s = 0

    @property
    def state(self) -> SessionState:
        return self._state

    async def run(self) -> None:
        """Connect, and connect again, until cancelled; then say goodbye."""
        waits = pauses()
        try:
            while True:
                began = time.monotonic()
                try:
                    connection = await self._connect()
                    await self._keep_alive(connection)
                except SessionError as error:
                    self._note_problem(str(error))
                await self._detach()
                if time.monotonic() - began > LASTING:
                    waits = pauses()
                await asyncio.sleep(next(waits))
        finally:
            await self._say_goodbye()

    async def batches(self) -> AsyncIterator[Batch]:
        """What arrived since the last batch was taken; see the contract."""
        while True:
            self._resume()
            if not self._stopped:
                await self._something.wait()
            self._something.clear()
            if self._arrived:
                messages, self._arrived = self._arrived, []
                packet_ids, self._packet_ids = self._packet_ids, []
                yield Batch(messages, self._arrived_ns, packet_ids, self._connections)
            elif self._stopped:
                return

    def ack(self, batch: Batch) -> None:
        """Acknowledge every message of the batch; see the contract."""
        if batch.packet_ids and self._connection is not None and batch.connection == self._greeted:
            self._connection.send(pubacks(batch.packet_ids))

    def publish(self, topic: str, payload: bytes, *, qos: int = 0) -> bool:
        """Send a message, without waiting; see the contract."""
        connection = self._connection
        if connection is None or not self._state.connected or connection.is_congested:
            return False
        if not self._outbox.fits(topic, payload):
            return False
        if qos == 0:
            connection.send(PublishPacket(topic, payload).write())
            return True
        kept = self._outbox.put(topic, payload)
        self._send_ready(connection)
        return kept

    def subscribe(self, filters: Sequence[str]) -> None:
        """Have these filters from now on; see the contract."""
        before, self._filters = self._filters, tuple(filters)
        self._unwanted = [name for name in {*self._unwanted, *before} if name not in self._filters]
        connection = self._connection
        if connection is None:
            return
        if gone := [name for name in before if name not in self._filters]:
            connection.send(mqtt5.UnsubscribePacket(self._outbox.next_id(), gone).write())
        if new := [name for name in self._filters if name not in before]:
            self._send_subscribe(connection, new)

    def forget(self) -> None:
        """Give the session up with the next goodbye; see the contract."""
        self._forgets = True

    def stop(self) -> None:
        """Take no more messages in; see the contract."""
        self._stopped = True
        if self._connection is not None:
            self._connection.pause()
        self._something.set()

    # ------------------------------------------------------------------ the connection

    async def _connect(self) -> Connection:
        """Connect and subscribe.

        Raises:
            BrokerUnreachable, BrokerRefused
        """
        connect = await asyncio.to_thread(self._connect_packet)  # it reads the password
        connection = await self._open()
        await self._answered(connection, lambda: connection.send(connect), "to the connection")
        if self._unwanted:
            connection.send(mqtt5.UnsubscribePacket(self._outbox.next_id(), self._unwanted).write())
        if self._filters:
            subscribe = partial(self._send_subscribe, connection, self._filters)
            await self._answered(connection, subscribe, "to the subscription")
        self._state = now_state(connected=True, connections=self._connections)
        log.info("broker connected", broker=str(self._broker), mqtt=VERSION, connections=self._connections)
        return connection

    async def _open(self) -> Connection:
        broker = self._broker
        name = broker.host if broker.tls else None
        self._asked.clear()
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                _, self._connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(self._take, str(broker)),
                    broker.host,
                    broker.port,
                    ssl=broker.tls,
                    server_hostname=name,
                )
        except TimeoutError:
            raise broker.silent("", ANSWER_WITHIN, VERSION) from None
        except (OSError, ValueError) as error:
            raise broker.unreachable(error) from error
        return self._connection

    def _connect_packet(self) -> bytes:
        settings = self._settings
        password = read_password(settings) if settings.username else None
        return mqtt5.ConnectPacket(
            settings.client_id,
            username=settings.username,
            password=None if password is None else password.encode(),
            clean_start=False,
            keep_alive=int(settings.keep_alive),
            session_expiry_interval=int(settings.session_expiry),
            receive_max=settings.in_flight,
        ).write()

    def _send_subscribe(self, connection: Connection, filters: Sequence[str]) -> None:
        ident = self._outbox.next_id()
        self._asked[ident] = tuple(filters)
        wanted = [
            mqtt5.TopicFilter(
                name,
                max_qos=mqtt5.QoS.AT_LEAST_ONCE,
                retain_as_published=False,  # so that the flag tells a copy that was kept from a message that comes now
                retain_handling=mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS,
            )
            for name in filters
        ]
        connection.send(mqtt5.SubscribePacket(ident, wanted).write())

    async def _answered(self, connection: Connection, ask: Callable[[], None], to_what: str) -> None:
        """Ask the broker and wait for its answer, which `_handle` puts into `_answer`."""
        self._answer = asyncio.get_running_loop().create_future()
        ask()
        done, _ = await asyncio.wait(
            (self._answer, connection.lost), timeout=ANSWER_WITHIN, return_when=asyncio.FIRST_COMPLETED
        )
        if self._answer in done:
            self._answer.result()
        elif not done:
            self._answer.cancel()
            raise self._broker.silent(to_what, ANSWER_WITHIN, VERSION)
        elif isinstance(error := connection.lost.exception(), BrokerRefused):
            raise error
        else:
            raise self._broker.closed(f" ({error})", VERSION)

    async def _keep_alive(self, connection: Connection) -> None:
        """Show the broker that we are there, and see that it is, until the connection is lost.

        Raises:
            SessionError: why it was lost.
        """
        interval = self._keep_alive_s or None
        while not (await asyncio.wait((connection.lost,), timeout=interval and interval / 2))[0]:
            silent = asyncio.get_running_loop().time() - connection.heard
            if interval and connection.is_reading and silent > 1.5 * interval:
                connection.end(SessionError(f"the broker at {self._broker} has said nothing for {silent:.0f} s"))
            connection.send(mqtt5.PingReqPacket().write())
        connection.lost.result()

    def _note_problem(self, problem: str) -> None:
        if problem != self._state.problem:
            log.warning("broker not connected", problem=problem, next="trying again, with growing pauses")
        self._state = now_state(connected=False, problem=problem, connections=self._connections)

    async def _detach(self) -> None:
        """Let go of a connection that is no more, and wait until its socket is closed."""
        self._greeted = 0
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.close()
        try:
            async with asyncio.timeout(CLOSE_WITHIN):
                await connection.closed.wait()
        except TimeoutError:
            connection.abort()

    async def _say_goodbye(self) -> None:
        """DISCONNECT, after the acknowledgements that still wait; the session stays at the broker."""
        if self._connection is not None:
            expiry = 0 if self._forgets else None
            self._connection.send(mqtt5.DisconnectPacket(session_expiry_interval=expiry).write())
        self._state = now_state(connected=False, problem="stopped", connections=self._connections)
        await self._detach()

    # ------------------------------------------------------------------ what comes

    def _take(self, packets: list[Packet]) -> None:
        """What one read of the socket brought. After it nothing is read until that is taken: then more has come, and
        is read at once, where the broker sends each message by itself."""
        self._arrived_ns = time.time_ns()
        if set(map(type, packets)) != _ONLY_MESSAGES:
            packets = [packet for packet in packets if type(packet) is PublishPacket or self._handle(packet)]
        self._arrived += packets
        self._packet_ids += [ident for packet in packets if (ident := packet.packet_id) is not None]
        if self._arrived:
            self._something.set()
            if self._connection is not None and self._state.connected:  # else an answer to us may come behind them
                self._connection.pause()

    def _handle(self, packet: Packet) -> bool:
        """Anything but a plain message; whether it is one all the same."""
        match packet:
            case mqtt5.PubAckPacket():
                self._on_puback(packet)
            case mqtt5.ConnAckPacket():
                self._on_connack(packet)
            case mqtt5.SubAckPacket():
                self._on_suback(packet)
            case mqtt5.DisconnectPacket():
                self._on_disconnect(packet)
            case Salvaged():
                return True
        return False

    def _on_connack(self, packet: mqtt5.ConnAckPacket) -> None:
        # At once, because redelivered messages may stand in the same read. What is left of the old connection the
        # broker delivers again, but for QoS 0.
        self._connections += 1
        self._greeted = self._connections
        self._arrived = [message for message in self._arrived if message.qos == 0]
        self._packet_ids = []
        self._keep_alive_s = packet.server_keep_alive or int(self._settings.keep_alive)
        self._outbox.receive_maximum = packet.receive_max
        self._outbox.max_packet = packet.max_packet_size
        if packet.reason_code == mqtt5.ConnAckReasonCode.SUCCESS:
            self._send_again(session_present=packet.session_present)
            self._tell_what_is_lost(packet)
            self._settle("")
        else:
            code = _words(packet.reason_code.name, packet.reason_str)
            self._settle(f"the broker at {self._broker} refused the gateway: {code}; {refusal_advice(code)}")

    def _tell_what_is_lost(self, packet: mqtt5.ConnAckPacket) -> None:
        """The broker keeps less for the gateway than was asked for."""
        if self._connections > 1 and not packet.session_present:
            log.warning(
                "the broker has lost the session", lost="what it held for the gateway; see the broker's persistence"
            )
        granted = packet.session_expiry_interval
        if granted is not None and granted < int(self._settings.session_expiry):
            log.warning("the broker keeps the session for less than mqtt.session_expiry", seconds=granted)

    def _on_suback(self, packet: mqtt5.SubAckPacket) -> None:
        asked = self._asked.pop(packet.packet_id, ())
        refused = [name for name, code in zip(asked, packet.reason_codes, strict=False) if _is_failure(code)]
        problem = refused_subscription(refused) if refused else ""
        if self._answer is not None and not self._answer.done():
            self._settle(problem)
        elif problem:  # one that came with a reload: the others go on
            log.warning("subscription refused", problem=problem)
            self._state = now_state(connected=True, problem=problem, connections=self._connections)

    def _on_puback(self, packet: mqtt5.PubAckPacket) -> None:
        message = self._outbox.acknowledged(packet.packet_id)
        if message and _is_failure(packet.reason_code):
            log.debug("publish refused", topic=message[0], reason=_words(packet.reason_code.name, packet.reason_str))
        if self._connection is not None:
            self._send_ready(self._connection)

    def _on_disconnect(self, packet: mqtt5.DisconnectPacket) -> None:
        code = _words(packet.reason_code.name, packet.reason_str)
        advice = _DISCONNECT_ADVICE.get(int(packet.reason_code), "see the broker's log")
        if self._connection is not None:
            self._connection.end(BrokerRefused(f"the broker at {self._broker} ended the connection: {code}; {advice}"))

    def _settle(self, problem: str) -> None:
        if self._answer is None or self._answer.done():
            return
        if problem:
            self._answer.set_exception(BrokerRefused(problem))
        else:
            self._answer.set_result(None)

    def _send_again(self, *, session_present: bool) -> None:
        if self._connection is not None:
            for packet in self._outbox.again(session_present=session_present):
                self._connection.send(packet)

    def _send_ready(self, connection: Connection) -> None:
        for packet in self._outbox.ready():
            connection.send(packet)

    def _resume(self) -> None:
        if self._connection is not None and not self._stopped:
            self._connection.resume()


def _is_failure(code: SupportsInt) -> bool:
    """Whether a reason code says no (MQTT 5.0, section 2.4). mqtt5's codes are no int, whatever its stubs say."""
    return int(code) >= 0x80


def _words(name: str, said: str | None) -> str:
    """A reason code as words, with what the broker said itself."""
    text = name.lower().replace("_", " ")
    return f"{text} ({said})" if said else text


_Why = mqtt5.DisconnectReasonCode
_DISCONNECT_ADVICE = {
    int(_Why.SESSION_TAKEN_OVER): (
        "another client has connected with the same mqtt.client_id: does a second gateway run with it?"
    ),
    int(_Why.NOT_AUTHORIZED): "may the gateway's account do what it does? See the broker's log",
    int(_Why.SERVER_SHUTTING_DOWN): "it comes back when the broker does",
    int(_Why.ADMINISTRATIVE_ACTION): "somebody at the broker did this; see its log",
    int(_Why.KEEP_ALIVE_TIMEOUT): "it heard nothing from the gateway: is the machine overloaded?",
    int(_Why.PACKET_TOO_LARGE): "raise the broker's limit of a packet's size",
    int(_Why.RECEIVE_MAX_EXCEEDED): "lower mqtt.in_flight",
    int(_Why.QUOTA_EXCEEDED): "raise the broker's quota of the gateway's account",
    int(_Why.MESSAGE_RATE_TOO_HIGH): "raise the broker's limit of the gateway's account",
}
