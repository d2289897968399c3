"""Session for brokers that speak MQTT 3.1.1, on paho-mqtt driven by the event loop.

paho's client is a state machine with a socket: the loop says when to write, and the socket is read here, since messages
do not pass through paho (see `mqtt311_frames`). The session subscribes with QoS 1 at most, as that of MQTT 5 does: the
broker delivers a message of QoS 2 with QoS 1 instead (MQTT 3.1.1, 3.8.4).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from paho.mqtt.client import Client, ConnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from gateway.errors import PacketMalformed, SessionError
from gateway.model import Batch
from gateway.mqtt.broker import read_password
from gateway.mqtt.inbox import Inbox
from gateway.mqtt.link import BrokerLink, retrieved
from gateway.mqtt.mqtt311_socket import PahoClient, PahoSocket
from gateway.mqtt.outgoing import Outgoing
from gateway.mqtt.session import Access, SessionSpec, SessionState
from gateway.mqtt.subscriptions import SUBSCRIBE_AGAIN_AFTER, Subscriptions

CLOSE_WITHIN = 2.0
READ_AT_ONCE = 500
"""Messages of one read."""
READ_MOST = 256 << 10
"""Bytes after which the socket waits until they are taken."""
UNANSWERED_MOST = 1 << 20
"""Bytes of messages after which even a connection that waits for the answer to its SUBSCRIBE is not read."""


class PahoSession:
    """Implements `gateway.mqtt.session.Session`."""

    def __init__(self, access: Access, spec: SessionSpec, filled: Callable[[], None]) -> None:
        self._settings = access.settings
        self._spec = spec
        self._link = BrokerLink(access.broker, "3.1.1", access.connecting, spec.client_id)
        self._subscriptions = Subscriptions(spec.filters, spec.unwanted)
        self._inbox = Inbox(filled)
        self._inbox_bytes = 0
        self._client = self._make_client()
        self._socket = PahoSocket(self._client, self._read, spec.max_packet)
        self._lost: asyncio.Future[None] | None = None
        self._outgoing = Outgoing()
        self._under_way: dict[int, tuple[str, int, int]] = {}
        """Topic, bytes of payload and QoS of what the broker does not have yet."""

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
        if not self._inbox.messages and not self._inbox.is_closed:
            self._inbox_bytes = 0
            self._socket.resume()

    def ack(self, batch: Batch) -> None:
        """Acknowledge every message of the batch; see the contract."""
        self._inbox.acknowledged(batch)
        if batch.connection == self._link.current and self._socket.is_open:
            for packet_id in batch.packet_ids:
                self._client.ack(packet_id, 1)

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing to do; see the contract."""
        return self._link.state.connected and self._socket.is_reading and self._inbox.is_settled

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to acknowledge; see the contract."""
        return self._inbox.is_settled

    def publish(self, topic: str, payload: bytes, *, qos: int = 0) -> bool:
        """Send a message, without waiting; see the contract."""
        size = len(payload)
        if not self._link.state.connected or not self._outgoing.take(topic, size):
            return False
        sent = self._client.publish(topic, payload, qos=qos)
        if sent.rc is MQTTErrorCode.MQTT_ERR_SUCCESS and not sent.is_published():
            self._under_way[sent.mid] = topic, size, qos
        else:
            self._outgoing.give_back(topic, size)
        return sent.rc is MQTTErrorCode.MQTT_ERR_SUCCESS

    def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe to these filters and no others; see the contract."""
        new, gone = self._subscriptions.change(filters)
        if not self._socket.is_open:
            return
        if gone:
            self._send_unsubscribe(gone)
        if new:
            self._send_subscribe(new)

    def forget(self) -> None:
        """See the contract. MQTT 3.1.1 cannot express it: the broker keeps the session, without subscriptions."""

    def stop(self) -> None:
        """Receive no more messages; see the contract."""
        self._socket.pause()
        self._inbox.close()

    # ------------------------------------------------------------------ the connection

    def _make_client(self) -> PahoClient:
        client = PahoClient(
            CallbackAPIVersion.VERSION2,
            self._spec.client_id,
            manual_ack=True,
            reconnect_on_failure=False,
            protocol=MQTTProtocolVersion.MQTTv311,
            clean_session=not self._spec.kept,
        )
        if self._link.broker.tls is not None:
            client.tls_set_context(self._link.broker.tls)
        client.max_inflight_messages = 1000
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        return client

    async def _serve(self) -> None:
        """Connect, subscribe, and keep the connection until it is lost.

        Raises:
            SessionError: why it was lost, or could not be made.
        """
        async with self._link.connecting:
            if self._spec.check is not None:
                await self._spec.check()
            lost = await self._open_session()
        interval = self._settings.keep_alive
        while not (await asyncio.wait((lost,), timeout=interval / 2))[0]:
            if (silent := self._socket.silent_for) > 1.5 * interval:
                self._end(SessionError(f"the broker at {self._link.broker} has sent nothing for {silent:.0f} s"))
            elif self._socket.is_open:
                self._client.ping()
        lost.result()

    async def _open_session(self) -> asyncio.Future[None]:
        """Connect and subscribe; the result is done when the connection is lost."""
        for mid in [mid for mid, (_, _, qos) in self._under_way.items() if qos == 0]:
            self._left(mid)  # they went with the last connection
        self._subscriptions.begin()
        lost = await self._open()
        await self._link.answer("to the connection", lost)
        if wanted := self._subscriptions.wanted:
            self._send_subscribe(wanted)
            await self._link.answer("to the subscription", lost, lambda: not self._socket.is_reading)
        if unwanted := self._subscriptions.stale:  # afterwards, so that between the two nothing is missed
            self._send_unsubscribe(unwanted)
        self._link.connected()
        return lost

    async def _open(self) -> asyncio.Future[None]:
        """Open the connection; the result is done when it is lost."""
        broker = self._link.broker
        self._socket.prepare()
        try:
            await asyncio.to_thread(self._connect)
        except (OSError, ValueError) as error:
            raise broker.unreachable(error) from error
        lost = self._lost = asyncio.get_running_loop().create_future()
        lost.add_done_callback(retrieved)
        if not self._socket.open():
            raise broker.closed(" at once", self._link.version)
        if not self._inbox.is_closed:
            self._socket.resume()
        return lost

    def _connect(self) -> None:
        if self._settings.username is not None:
            self._client.username_pw_set(self._settings.username, read_password(self._settings))
        broker = self._link.broker
        self._client.connect(broker.host, broker.port, keepalive=int(self._settings.keep_alive))

    def _send_unsubscribe(self, filters: list[str]) -> None:
        self._client.unsubscribe(filters)
        if again := self._subscriptions.same_as(filters):
            self._send_subscribe(again)
            loop, connection = asyncio.get_running_loop(), self._link.current
            loop.call_later(SUBSCRIBE_AGAIN_AFTER, self._subscribe_again, connection, again)

    def _subscribe_again(self, connection: int, filters: Sequence[str]) -> None:
        if connection == self._link.current and (wanted := self._subscriptions.still_wanted(filters)):
            self._send_subscribe(wanted)

    def _send_subscribe(self, filters: Sequence[str]) -> None:
        _, mid = self._client.subscribe([(name, self._spec.qos) for name in filters])
        if mid is not None:
            self._subscriptions.asked(mid, filters)

    def _lose(self, why: object = "") -> None:
        self._end(self._link.broker.lost(why))

    def _end(self, error: SessionError) -> None:
        """Give the connection up; of several reasons the first counts."""
        self._socket.pause()
        if self._lost is not None and not self._lost.done():
            self._lost.set_exception(error)

    async def _detach(self) -> None:
        """Let go of a lost connection."""
        self._socket.close()

    async def _say_goodbye(self) -> None:
        """Send DISCONNECT, after the acknowledgements that still wait; the broker keeps the session."""
        if self._socket.is_open:
            self._client.disconnect()
            give_up = time.monotonic() + CLOSE_WITHIN
            while self._client.want_write() and time.monotonic() < give_up:
                self._client.loop_write()
        self._link.stopped()
        await self._detach()

    # ------------------------------------------------------------------ what arrives

    def _read(self) -> None:
        """Take what the readable socket holds, up to a bound, as one batch."""
        now_ns = time.time_ns()
        try:
            is_all = self._take_packets()
        except SessionError as error:
            self._end(error)
        except OSError as error:
            self._lose(str(error))
        except Exception as error:  # of any kind: paho's, at a packet that no broker should send
            self._end(PacketMalformed(f"the broker sent a packet that is not MQTT 3.1.1: {error!r}"))
        else:
            if not self._pause_if_much() and not is_all:
                asyncio.get_running_loop().call_soon(self._socket.read_on)
        self._inbox.arrived(now_ns)

    def _take_packets(self) -> bool:
        """Take packets until nothing more has arrived, and return True; or until there is much to take.

        Raises:
            PacketMalformed: a packet is not MQTT 3.1.1.
            OSError: the connection is lost.
        """
        messages, left = len(self._inbox.messages) + READ_AT_ONCE, READ_MOST
        while len(self._inbox.messages) < messages and left > 0:
            if (data := self._socket.receive()) is None:
                return True
            left -= len(data)
            for message in self._socket.messages_in(data):
                self._inbox.messages.append(message)
                self._inbox_bytes += len(message.topic) + len(message.payload)
        return False

    def _pause_if_much(self) -> bool:
        """Pause where there is much to take; return whether it is paused. Before it is connected, an answer may
        come behind the messages."""
        size = self._inbox_bytes
        if self._link.state.connected:
            is_much = len(self._inbox.messages) >= READ_AT_ONCE or size >= READ_MOST
        else:
            is_much = size > UNANSWERED_MOST
        if is_much:
            self._socket.pause()
        return is_much

    # ------------------------------------------------------------------ what paho calls

    def _on_connect(self, _client: Client, _data: Any, flags: ConnectFlags, code: ReasonCode, _properties: Any) -> None:
        # In this very callback, because redelivered messages may stand in the same read as the CONNACK.
        self._link.expect_greeting()
        self._inbox.begin(self._link.greeted())
        self._subscriptions.is_known = flags.session_present
        self._inbox_bytes = sum(len(one.topic) + len(one.payload) for one in self._inbox.messages)
        if code.is_failure:
            self._link.reject(self._link.broker.rejected(str(code)))
        else:
            self._link.accept()

    def _on_subscribe(self, _client: Client, _data: Any, mid: int, codes: list[ReasonCode], _properties: Any) -> None:
        self._link.subscribed(self._subscriptions.rejected(mid, (code.is_failure for code in codes)))

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        self._lose(code)

    def _on_publish(self, _client: Client, _userdata: Any, mid: int, *_args: Any) -> None:
        self._left(mid)

    def _left(self, mid: int) -> None:
        """Note that a message no longer waits, if it is one of those counted."""
        if found := self._under_way.pop(mid, None):
            self._outgoing.give_back(*found[:2])
