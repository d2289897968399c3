"""The session for brokers that speak MQTT 3.1.1, on paho-mqtt driven by the event loop.

paho's client is a state machine with a socket: the loop tells it when to read and to write, and `manual_ack` leaves
the acknowledgement to us. It subscribes with QoS 1 at most: of a QoS 2 message paho acknowledges the first half by
itself, so that a crash could lose it; the broker delivers such a message with QoS 1 instead (MQTT 3.1.1, 3.8.4).
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from gateway.backoff import LASTING, pauses
from gateway.config import Mqtt
from gateway.errors import BrokerRefused, SessionError
from gateway.logs import get_logger
from gateway.model import Batch, Message
from gateway.mqtt.broker import Broker, read_password, refusal_advice, refused_subscription
from gateway.mqtt.session import SessionState, now_state

MAX_PUBLISHING = 10_000
ANSWER_WITHIN = 10.0
READ_AT_ONCE = 2000
"""Messages of one batch, unless more of them may be under way."""
READ_BYTES = 16 << 20
"""Bytes after which the socket waits until they are taken: a broker may send 256 MB in one message."""
VERSION = "3.1.1"

log = get_logger(__name__)


class PahoSession:
    """Implements `gateway.mqtt.session.Session`."""

    def __init__(self, settings: Mqtt, filters: Sequence[str], unwanted: Sequence[str] = ()) -> None:
        self._unwanted = list(unwanted)
        self._settings = settings
        self._filters = tuple(filters)
        self._broker = Broker.of(settings)
        self._client = self._make_client()
        self._state = now_state(connected=False, problem="not connected yet")
        self._arrived: list[Message] = []
        self._packet_ids: list[int] = []
        self._arrived_ns = 0
        self._arrived_bytes = 0
        self._something = asyncio.Event()
        self._answer: asyncio.Future[None] | None = None
        self._lost = asyncio.Event()
        self._socket: socket.socket | None = None
        self._reading = False
        self._stopped = False
        self._connections = 0
        self._greeted = 0
        self._publishing = 0
        self._asked: dict[int, tuple[str, ...]] = {}

    @property
    def state(self) -> SessionState:
        return self._state

    async def run(self) -> None:
        """Connect, and connect again, until cancelled; then say goodbye."""
        self._loop = asyncio.get_running_loop()
        waits = pauses()
        try:
            while True:
                try:
                    await self._connect()
                    began = time.monotonic()
                    await self._serve()
                    if time.monotonic() - began > LASTING:
                        waits = pauses()
                except SessionError as error:
                    self._note_problem(str(error))
                self._detach()
                await asyncio.sleep(next(waits))
        finally:
            self._say_goodbye()

    async def batches(self) -> AsyncIterator[Batch]:
        """What arrived since the last batch was taken; see the contract."""
        while True:
            if not self._stopped:
                await self._something.wait()
            self._something.clear()
            if self._arrived:
                messages, self._arrived = self._arrived, []
                self._arrived_bytes = 0
                packet_ids, self._packet_ids = self._packet_ids, []
                yield Batch(messages, self._arrived_ns, packet_ids, self._connections)
                self._resume()
            elif self._stopped:
                return

    def ack(self, batch: Batch) -> None:
        """Acknowledge every message of the batch; see the contract."""
        if batch.connection != self._greeted or self._socket is None:
            return
        for packet_id in batch.packet_ids:
            self._client.ack(packet_id, 1)

    def publish(self, topic: str, payload: bytes, *, qos: int = 0) -> bool:
        """Send a message, without waiting; see the contract."""
        if not self._state.connected or self._publishing >= MAX_PUBLISHING:
            return False
        self._publishing += 1
        return self._client.publish(topic, payload, qos=qos).rc is MQTTErrorCode.MQTT_ERR_SUCCESS

    def subscribe(self, filters: Sequence[str]) -> None:
        """Have these filters from now on; see the contract."""
        before, self._filters = self._filters, tuple(filters)
        self._unwanted = [name for name in {*self._unwanted, *before} if name not in self._filters]
        if self._socket is None:
            return
        if gone := [name for name in before if name not in self._filters]:
            self._client.unsubscribe(gone)
        if new := [name for name in self._filters if name not in before]:
            self._send_subscribe(new)

    def forget(self) -> None:
        """See the contract. MQTT 3.1.1 has no word for it: the session stays, without subscriptions."""

    def stop(self) -> None:
        """Take no more messages in; see the contract."""
        self._stopped = True
        self._pause()
        self._something.set()

    # ------------------------------------------------------------------ the connection

    def _make_client(self) -> Client:
        settings = self._settings
        client = Client(
            CallbackAPIVersion.VERSION2,
            settings.client_id,
            manual_ack=True,
            reconnect_on_failure=False,
            protocol=MQTTProtocolVersion.MQTTv311,
            clean_session=False,
        )
        if self._broker.tls is not None:
            client.tls_set_context(self._broker.tls)
        client.max_inflight_messages = 1000
        client.max_queued_messages = MAX_PUBLISHING
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        return client

    async def _connect(self) -> None:
        """Connect and subscribe.

        Raises:
            BrokerUnreachable, BrokerRefused
        """
        self._lost.clear()
        self._publishing = 0
        self._asked.clear()
        self._client.on_socket_register_write = None  # paho writes CONNECT itself, in the thread
        await self._answered(self._open, "to the connection")
        if self._unwanted:
            self._client.unsubscribe(self._unwanted)
        if self._filters:
            await self._answered(self._subscribe, "to the subscription")
        self._state = now_state(connected=True, connections=self._connections)
        log.info("broker connected", broker=str(self._broker), mqtt=VERSION, connections=self._connections)

    async def _open(self) -> None:
        try:
            await asyncio.to_thread(self._open_socket)
        except (OSError, ValueError) as error:
            raise self._broker.unreachable(error) from error
        opened = self._client.socket()
        if not isinstance(opened, socket.socket):
            raise self._broker.closed(" at once", VERSION)
        self._socket = opened
        self._client.on_socket_register_write = self._want_write
        self._client.on_socket_unregister_write = self._unwant_write
        self._client.on_socket_close = self._on_socket_close
        self._resume()

    def _open_socket(self) -> None:
        if self._settings.username is not None:
            self._client.username_pw_set(self._settings.username, read_password(self._settings))
        self._client.connect(self._broker.host, self._broker.port, keepalive=int(self._settings.keep_alive))

    async def _subscribe(self) -> None:
        self._send_subscribe(self._filters)

    def _send_subscribe(self, filters: Sequence[str]) -> None:
        _, mid = self._client.subscribe([(name, 1) for name in filters])
        if mid is not None:
            self._asked[mid] = tuple(filters)

    async def _answered(self, ask: Any, to_what: str) -> None:
        """Ask the broker and wait for its answer, which a callback puts into `_answer`."""
        self._answer = self._loop.create_future()
        self._answer.add_done_callback(_seen)
        await ask()
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                await self._answer
        except TimeoutError:
            raise self._broker.silent(to_what, ANSWER_WITHIN, VERSION) from None

    async def _serve(self) -> None:
        """Keep the connection alive until it is lost."""
        while not self._lost.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._lost.wait()
            if self._reading and self._client.loop_misc() is not MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._lost.set()

    def _note_problem(self, problem: str) -> None:
        if problem != self._state.problem:
            log.warning("broker not connected", problem=problem, next="trying again, with growing pauses")
        self._state = now_state(connected=False, problem=problem, connections=self._connections)

    def _detach(self) -> None:
        """Let go of a connection that is no more."""
        self._greeted = 0
        if self._state.connected:
            self._note_problem(f"the connection to {self._broker} was lost")
        if (opened := self._client.socket()) is not None:
            self._on_socket_close(self._client, None, opened)
            opened.close()

    def _say_goodbye(self) -> None:
        """DISCONNECT, after the acknowledgements that still wait; the session stays at the broker."""
        if self._socket is not None:
            self._client.disconnect()
            give_up = time.monotonic() + 2
            while self._client.want_write() and time.monotonic() < give_up:
                self._client.loop_write()
        self._state = now_state(connected=False, problem="stopped", connections=self._connections)
        self._detach()

    # ------------------------------------------------------------------ the socket

    def _resume(self) -> None:
        if self._socket is not None and not self._reading and not self._stopped:
            self._loop.add_reader(self._socket, self._read)
            self._reading = True

    def _pause(self) -> None:
        if self._reading and self._socket is not None:
            self._loop.remove_reader(self._socket)
        self._reading = False

    def _read(self) -> None:
        """One readable socket: take what is there, up to a bound, as one batch."""
        self._arrived_ns = time.time_ns()
        before = len(self._arrived)
        seen = -1
        while seen != len(self._arrived) and len(self._arrived) - before < READ_AT_ONCE and not self._is_heavy():
            seen = len(self._arrived)
            if self._client.loop_read() is not MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._lost.set()
                break
        else:
            if seen != len(self._arrived):
                self._loop.call_soon(self._read_on)  # TLS may hold more that no selector reports
        if len(self._arrived) > before:
            self._something.set()
        is_much = len(self._arrived) >= max(self._settings.in_flight, READ_AT_ONCE) or self._is_heavy()
        if is_much and self._state.connected:  # before, an answer to us may come behind them
            self._pause()

    def _is_heavy(self) -> bool:
        return self._arrived_bytes >= READ_BYTES

    def _read_on(self) -> None:
        if self._reading:
            self._read()

    def _want_write(self, _client: Client, _data: Any, opened: Any) -> None:
        self._loop.add_writer(opened, self._client.loop_write)

    def _unwant_write(self, _client: Client, _data: Any, opened: Any) -> None:
        self._loop.remove_writer(opened)

    def _on_socket_close(self, _client: Client, _data: Any, opened: Any) -> None:
        if opened.fileno() >= 0:
            self._loop.remove_reader(opened)
            self._loop.remove_writer(opened)
        self._socket = None
        self._reading = False

    # ------------------------------------------------------------------ what paho calls

    def _on_connect(self, _client: Client, _data: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        # In this very callback, because redelivered messages may stand in the same read as the CONNACK. What is
        # left of the old connection the broker delivers again, but for QoS 0.
        self._connections += 1
        self._greeted = self._connections
        self._arrived = [message for message in self._arrived if message.qos == 0]
        self._arrived_bytes = sum(len(message.payload) for message in self._arrived)
        self._packet_ids = []
        refusal = f"the broker at {self._broker} refused the gateway: {code}; {refusal_advice(str(code))}"
        self._settle(refusal if code.is_failure else "")

    def _on_subscribe(self, _client: Client, _data: Any, mid: int, codes: list[ReasonCode], _properties: Any) -> None:
        refused = [name for name, code in zip(self._asked.pop(mid, ()), codes, strict=False) if code.is_failure]
        problem = refused_subscription(refused)
        if self._answer is not None and not self._answer.done():
            self._settle(problem if refused else "")
        elif refused:  # one that came with a reload: the others go on
            log.warning("subscription refused", problem=problem)
            self._state = now_state(connected=True, problem=problem, connections=self._connections)

    def _settle(self, problem: str) -> None:
        if self._answer is None or self._answer.done():
            return
        if problem:
            self._answer.set_exception(BrokerRefused(problem))
        else:
            self._answer.set_result(None)

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(self._broker.closed(f" ({code})", VERSION))
        self._lost.set()

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self._arrived.append(Message(message.topic, bytes(message.payload), message.qos, message.retain))
        self._arrived_bytes += len(message.payload)
        if message.qos:
            self._packet_ids.append(message.mid)

    def _on_publish(self, *_args: Any) -> None:
        self._publishing = max(0, self._publishing - 1)


def _seen(answer: asyncio.Future[None]) -> None:
    """An answer that nobody waits for any more is no error of its own: what `ask` raised says it already."""
    if not answer.cancelled():
        answer.exception()
