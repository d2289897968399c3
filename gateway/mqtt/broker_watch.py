"""Watch of what the broker reports of itself in `$SYS`, above all that it drops messages. Mosquitto acknowledges a
message to the device and drops it where a session's queue is full; that counter is the only trace.

A connection of its own, without a session, with MQTT 5. What a broker does not report is absent. The names are those of
Mosquitto; it publishes each value when it changes, and gives new subscribers the last one unless it retains nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import mqtt5

from gateway.backoff import LASTING, pauses
from gateway.config import Mqtt
from gateway.errors import SessionError, SessionRejected
from gateway.logs import get_logger
from gateway.metrics import Metrics
from gateway.mqtt.broker import Broker, read_account
from gateway.mqtt.dialogue import Dialogue, connected
from gateway.mqtt.mqtt5_decoder import Packet, Salvaged

ROOT = "$SYS/broker"
FIGURES = {
    f"{ROOT}/publish/messages/dropped": "dropped_messages",
    f"{ROOT}/heap/current": "heap_bytes",
    f"{ROOT}/heap/maximum": "heap_maximum_bytes",
    f"{ROOT}/store/messages/count": "stored_messages",
    f"{ROOT}/store/messages/bytes": "stored_bytes",
    f"{ROOT}/clients/connected": "connected_clients",
    f"{ROOT}/clients/disconnected": "absent_clients",
    f"{ROOT}/retained messages/count": "retained_messages",
}
"""Topics, and the metrics that they become: `gateway_broker_NAME`."""
WARN_EVERY = 60.0
SHOWN_FOR = 900.0
"""Seconds for which health shows that the broker has dropped messages."""
KEEP_ALIVE = 60
_REJECTED = 0x80

log = get_logger(__name__)


class BrokerWatch:
    """Writes `metrics.broker`; `problem` says what the broker has dropped lately, and what to do."""

    def __init__(self, settings: Mqtt, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._figures = metrics.broker
        self._clock = clock
        self._dropped: float | None = None
        self._since_warning = 0.0
        self._warned_at = float("-inf")
        self._rose_at = float("-inf")
        self._trouble = ""

    @property
    def problem(self) -> str:
        if self._dropped is None or self._clock() - self._rose_at > SHOWN_FOR:
            return ""
        return f"{_dropped(self._dropped)}. {ADVICE}"

    async def run(self) -> None:
        """Watch until cancelled; return where the account may not read `$SYS`, or the broker does not speak MQTT 5."""
        waits = pauses()
        while True:
            began = time.monotonic()
            try:
                if not await self._watch():
                    return
            except SessionError as error:
                self._say(error)
            except Exception as error:  # of any kind: whoever only watches must not end the gateway
                self._say(SessionRejected(f"the watch failed: {error!r}"))
            self._figures.clear()
            if time.monotonic() - began > LASTING:
                waits = pauses()
            await asyncio.sleep(next(waits))

    async def _watch(self) -> bool:
        """Read what the broker reports until the connection is lost; return False where it reports nothing to us.

        Raises:
            SessionError: the connection cannot be made, or is lost.
        """
        broker, connect = await asyncio.to_thread(self._address)
        async with connected(broker, connect) as (dialogue, connack):
            if int(connack.reason_code) >= _REJECTED:
                raise SessionRejected(f"{broker}: {connack.reason_code.name.lower().replace('_', ' ')}")
            dialogue.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(topic) for topic in FIGURES]))
            answer = await dialogue.answer(mqtt5.SubAckPacket, "to the subscription")
            if all(int(code) >= _REJECTED for code in answer.reason_codes):
                log.info(
                    "what the broker drops is not watched",
                    problem=f"the gateway's account may not read {ROOT}/#",
                    next="permit it, by `gateway provision apply` or in the access list, and restart the gateway",
                )
                return False
            self._trouble = ""
            while True:
                self._take(await self._next(dialogue))

    async def _next(self, dialogue: Dialogue) -> Packet:
        """Wait for a packet; ask for a sign of life when none comes.

        Raises:
            SessionError: the connection is lost.
        """
        try:
            async with asyncio.timeout(KEEP_ALIVE / 2):
                return await dialogue.packet()
        except TimeoutError:
            dialogue.send(mqtt5.PingReqPacket())
            return await dialogue.answer(mqtt5.PingRespPacket, "to a ping")

    def _address(self) -> tuple[Broker, mqtt5.ConnectPacket]:
        settings = self._settings
        username, password = read_account(settings)
        return Broker.of(settings), mqtt5.ConnectPacket(
            f"{settings.client_id}._watch",
            username=username,
            password=password,
            clean_start=True,
            keep_alive=KEEP_ALIVE,
            receive_max=100,
        )

    def _take(self, packet: Packet) -> None:
        if not isinstance(packet, mqtt5.PublishPacket | Salvaged) or packet.topic not in FIGURES:
            return
        try:
            value = float(packet.payload)
        except ValueError:
            return
        name = FIGURES[packet.topic]
        self._figures[name] = value
        if name == "dropped_messages":
            self._count(value, was_before=packet.retain)

    def _count(self, dropped: float, *, was_before: bool) -> None:
        """Notice a rise. A retained value is from before; without it, the first value is there because it changed."""
        known, self._dropped = self._dropped, dropped
        if known is None and was_before:
            return
        rise = dropped - known if known is not None and dropped >= known else dropped
        if rise <= 0:
            return
        self._rose_at = self._clock()
        self._since_warning += rise
        if self._rose_at - self._warned_at >= WARN_EVERY:
            log.warning("the broker drops messages", problem=_dropped(self._since_warning), next=ADVICE)
            self._warned_at, self._since_warning = self._rose_at, 0.0

    def _say(self, error: SessionError) -> None:
        """Log why the broker cannot be watched, once. The session reports that it is away."""
        if isinstance(error, SessionRejected) and str(error) != self._trouble:
            self._trouble = str(error)
            log.warning("the broker is not watched", problem=str(error), next="trying again, with growing pauses")


ADVICE = (
    "Queues of sessions were full. The count is of all sessions together, also those of startups that read feeds; "
    "Mosquitto's log names each: 'Outgoing messages are being dropped for client …'. If a session of the gateway is "
    "among them, find who floods (`gateway status`) and block the device (`gateway devices block`), or raise "
    "max_queued_messages and max_queued_bytes at the broker (docs/sizing.md)"
)


def _dropped(count: float) -> str:
    return f"the broker has dropped {count:,.0f} messages, most of them acknowledged"
