"""Session for brokers that speak MQTT 5, on the codec of mqtt5: one read of the socket is one batch.

Receive Maximum bounds what is delivered and not acknowledged; a batch is acknowledged in one write; while messages wait
to be taken, nothing is read. It subscribes with QoS 1 at most (docs/decisions/0003-qos-1-at-most.md).

CONNECT has no Maximum Packet Size: a broker would drop what is larger without a sign, and Mosquitto 2.0 never gives
back the place in flight of such a message, so that Receive Maximum of them stop the session until it connects again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import mqtt5
from mqtt5 import PublishPacket

from gateway.errors import SessionError, SessionRejected
from gateway.logs import get_logger
from gateway.model import Batch, Publish
from gateway.mqtt.broker import read_account
from gateway.mqtt.inbox import Inbox
from gateway.mqtt.link import ANSWER_WITHIN, BrokerLink
from gateway.mqtt.mqtt5_connection import Connection, pubacks
from gateway.mqtt.mqtt5_decoder import Decoder, Packet, Salvaged
from gateway.mqtt.mqtt5_outbox import Outbox
from gateway.mqtt.mqtt5_reasons import disconnect_advice, in_words, is_failure
from gateway.mqtt.session import Access, SessionSpec, SessionState
from gateway.mqtt.subscriptions import SUBSCRIBE_AGAIN_AFTER, Subscriptions

CLOSE_WITHIN = 2.0
UNANSWERED_MOST = 1 << 20
"""Bytes of messages after which even a connection that waits for the answer to its SUBSCRIBE is not read."""
_ONLY_MESSAGES = {PublishPacket}
_RETAINED = mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS

log = get_logger(__name__)


class Mqtt5Session:
    """Implements `gateway.mqtt.session.Session`."""

    def __init__(self, access: Access, spec: SessionSpec, filled: Callable[[], None]) -> None:
        self._access = access
        self._settings = access.settings
        self._spec = spec
        self._link = BrokerLink(access.broker, "5", access.connecting, spec.client_id)
        self._subscriptions = Subscriptions(spec.filters, spec.unwanted)
        self._inbox = Inbox(filled)
        self._outbox = Outbox()
        self._connection: Connection | None = None
        self._keep_alive_s = 0
        self._expires_at_goodbye = False

    @property
    def state(self) -> SessionState:
        return self._link.state

    async def run(self) -> None:
        """Connect, and reconnect when necessary, until cancelled; then disconnect."""
        try:
            await self._link.keep_up(self._serve, self._detach)
        finally:
            await self._say_goodbye()

    def take(self, limit: int) -> Batch | None:
        """Return the oldest messages that have arrived; see the contract."""
        return self._inbox.take(limit)

    def put_back(self, batch: Batch, done: int) -> Batch:
        """Take back the messages behind the first `done`; see the contract."""
        return self._inbox.put_back(batch, done)

    def resume(self) -> None:
        """Read the socket again; see the contract."""
        if self._connection is not None and not self._inbox.messages and not self._inbox.is_closed:
            self._connection.resume()

    def ack(self, batch: Batch) -> None:
        """Acknowledge every message of the batch; see the contract."""
        self._inbox.acknowledged(batch)
        if self._connection is not None and batch.connection == self._link.current and (ids := batch.packet_ids):
            self._connection.send(pubacks(ids))

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing to do; see the contract."""
        is_reading = self._connection is not None and self._connection.is_reading
        return is_reading and self._link.state.connected and self._inbox.is_settled

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to acknowledge; see the contract."""
        return self._inbox.is_settled

    def publish(self, topic: str, payload: bytes, *, qos: int = 0) -> bool:
        """Send a message, without waiting; see the contract."""
        connection = self._connection
        if connection is None or not self._link.state.connected or not self._outbox.fits(topic, payload):
            return False
        is_kept = self._outbox.put(topic, payload) if qos else self._outbox.put_once(topic, payload)
        self._send_ready(connection)
        return is_kept

    def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe to these filters and no others; see the contract."""
        new, gone = self._subscriptions.change(filters)
        if self._connection is None:
            return
        if gone:
            self._send_unsubscribe(self._connection, gone)
        if new:
            self._send_subscribe(self._connection, new)

    def forget(self) -> None:
        """End the session at the next disconnect; see the contract."""
        self._expires_at_goodbye = True

    def stop(self) -> None:
        """Receive no more messages; see the contract."""
        if self._connection is not None:
            self._connection.pause()
        self._inbox.close()

    # ------------------------------------------------------------------ the connection

    async def _serve(self) -> None:
        """Connect, subscribe, and keep the connection until it is lost.

        Raises:
            SessionError: why it was lost, or could not be made.
        """
        async with self._link.connecting:
            if self._spec.check is not None:
                await self._spec.check()
            connection = await self._connect()
        await self._keep_alive(connection)

    async def _connect(self) -> Connection:
        connect = await asyncio.to_thread(self._connect_packet)  # it reads the password
        self._subscriptions.begin()
        self._outbox.drop_once()
        connection = self._connection = await self._open()
        connection.send(connect)
        await self._link.answer("to the connection", connection.lost)
        if wanted := self._subscriptions.wanted:
            self._send_subscribe(connection, wanted)
            await self._link.answer("to the subscription", connection.lost, lambda: not connection.is_reading)
        if unwanted := self._subscriptions.stale:  # afterwards, so that between the two nothing is missed
            self._send_unsubscribe(connection, unwanted)
        self._link.connected()
        return connection

    async def _open(self) -> Connection:
        broker = self._link.broker
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(
                        self._take, self._on_writable, broker, Decoder(self._access.scratch, self._spec.max_packet)
                    ),
                    broker.host,
                    broker.port,
                    ssl=broker.tls,
                    server_hostname=broker.host if broker.tls else None,
                )
        except TimeoutError:
            raise broker.silent("to the connection", ANSWER_WITHIN, self._link.version) from None
        except (OSError, ValueError) as error:
            raise broker.unreachable(error) from error
        return connection

    def _connect_packet(self) -> bytes:
        settings = self._settings
        username, password = read_account(settings)
        return mqtt5.ConnectPacket(
            self._spec.client_id,
            username=username,
            password=password,
            clean_start=not self._spec.kept,
            keep_alive=int(settings.keep_alive),
            session_expiry_interval=self._expiry_s,
            receive_max=settings.in_flight,
        ).write()

    @property
    def _expiry_s(self) -> int:
        return int(self._settings.session_expiry) if self._spec.kept else 0

    def _send_subscribe(self, connection: Connection, filters: Sequence[str]) -> None:
        packet_id = self._outbox.next_id()
        self._subscriptions.asked(packet_id, filters)
        wanted = [
            mqtt5.TopicFilter(
                name,
                max_qos=mqtt5.QoS.AT_LEAST_ONCE if self._spec.qos else mqtt5.QoS.AT_MOST_ONCE,
                retain_as_published=False,  # so that the flag marks retained copies only, not what is published now
                retain_handling=_RETAINED if self._spec.kept else mqtt5.RetainHandling.SEND_NEVER,
            )
            for name in filters
        ]
        connection.send(mqtt5.SubscribePacket(packet_id, wanted).write())

    def _send_unsubscribe(self, connection: Connection, filters: list[str]) -> None:
        connection.send(mqtt5.UnsubscribePacket(self._outbox.next_id(), filters).write())
        if again := self._subscriptions.same_as(filters):
            self._send_subscribe(connection, again)
            asyncio.get_running_loop().call_later(SUBSCRIBE_AGAIN_AFTER, self._subscribe_again, connection, again)

    def _subscribe_again(self, connection: Connection, filters: Sequence[str]) -> None:
        if connection is self._connection and (wanted := self._subscriptions.still_wanted(filters)):
            self._send_subscribe(connection, wanted)

    async def _keep_alive(self, connection: Connection) -> None:
        """Send pings, and end the connection if the broker stays silent; return when it is lost.

        Raises:
            SessionError: why it was lost.
        """
        interval = self._keep_alive_s or None
        while not (await asyncio.wait((connection.lost,), timeout=interval and interval / 2))[0]:
            silent = asyncio.get_running_loop().time() - connection.heard
            if interval and connection.is_reading and silent > 1.5 * interval:
                connection.end(SessionError(f"the broker at {self._link.broker} has sent nothing for {silent:.0f} s"))
            connection.send(mqtt5.PingReqPacket().write())
        connection.lost.result()

    async def _detach(self) -> None:
        """Let go of a lost connection, and wait until its socket is closed."""
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
        """Send DISCONNECT, after the acknowledgements that still wait; the broker keeps the session."""
        if self._connection is not None:
            expiry = 0 if self._expires_at_goodbye else None
            self._connection.send(mqtt5.DisconnectPacket(session_expiry_interval=expiry).write())
        self._link.stopped()
        await self._detach()

    # ------------------------------------------------------------------ packets from the broker

    def _take(self, packets: list[Packet]) -> None:
        """Take what one read of the socket brought. Then nothing is read until that is taken: meanwhile more has
        arrived, and is read at once, where the broker sends each message by itself."""
        arrived_ns = time.time_ns()
        if set(map(type, packets)) != _ONLY_MESSAGES:
            packets = [packet for packet in packets if type(packet) is PublishPacket or self._handle(packet)]
        inbox = self._inbox
        inbox.messages += packets
        inbox.arrived(arrived_ns)
        # Before it is connected, an answer to the session may come behind the messages.
        if inbox.messages and self._connection is not None and (self._link.state.connected or _is_much(inbox.messages)):
            self._connection.pause()

    def _handle(self, packet: Packet) -> bool:
        """Handle anything but a plain message; return whether it is a message all the same."""
        match packet:
            case mqtt5.PubAckPacket():
                self._on_puback(packet)
            case mqtt5.ConnAckPacket():
                self._on_connack(packet)
            case mqtt5.SubAckPacket():
                failures = map(is_failure, packet.reason_codes)
                self._link.subscribed(self._subscriptions.rejected(packet.packet_id, failures))
            case mqtt5.DisconnectPacket():
                self._on_disconnect(packet)
            case Salvaged():
                return True
        return False

    def _on_connack(self, packet: mqtt5.ConnAckPacket) -> None:
        # At once, because redelivered messages may stand in the same read.
        self._link.expect_greeting()
        connection = self._link.greeted()
        self._subscriptions.is_known = packet.session_present
        self._inbox.begin(connection)
        self._keep_alive_s = packet.server_keep_alive or int(self._settings.keep_alive)
        self._outbox.receive_maximum = packet.receive_max
        self._outbox.max_packet = packet.max_packet_size
        if packet.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
            self._link.reject(self._link.broker.rejected(in_words(packet)))
            return
        if self._connection is not None:
            for again in self._outbox.again(session_present=packet.session_present):
                self._connection.send(again)
            self._send_ready(self._connection)
        if connection > 1 and self._spec.kept and not packet.session_present:
            log.warning(
                "the broker has lost the session",
                client_id=self._spec.client_id,
                lost="what it held for the gateway; see the broker's persistence",
            )
        granted = packet.session_expiry_interval
        if granted is not None and granted < self._expiry_s:
            log.warning("the broker keeps the session for less than mqtt.session_expiry", seconds=granted)
        self._link.accept()

    def _on_puback(self, packet: mqtt5.PubAckPacket) -> None:
        message = self._outbox.acknowledged(packet.packet_id)
        if message and is_failure(packet.reason_code):
            log.debug("publish rejected", topic=message[0], reason=in_words(packet))
        if self._connection is not None:
            self._send_ready(self._connection)

    def _on_disconnect(self, packet: mqtt5.DisconnectPacket) -> None:
        code, advice = in_words(packet), disconnect_advice(packet)
        if self._connection is not None:
            self._connection.end(
                SessionRejected(f"the broker at {self._link.broker} ended the connection: {code}; {advice}")
            )

    def _send_ready(self, connection: Connection) -> None:
        for packets in (self._outbox.ready(), self._outbox.once()):
            while not connection.is_congested and (packet := next(packets, None)) is not None:
                connection.send(packet)

    def _on_writable(self) -> None:
        if self._connection is not None and self._link.state.connected:
            self._send_ready(self._connection)


def _is_much(messages: Sequence[Publish]) -> bool:
    """Return whether messages that nobody takes yet are enough to stop reading."""
    return sum(len(message.payload) + len(message.topic) for message in messages) > UNANSWERED_MOST
