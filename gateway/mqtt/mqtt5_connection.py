"""One MQTT 5 connection as an asyncio protocol: each read of the socket becomes the packets that it brought, and what
is sent within one turn of the event loop goes out in one write.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Iterable
from sys import byteorder
from typing import cast

from gateway.errors import PacketMalformed, SessionError
from gateway.mqtt.broker import Broker
from gateway.mqtt.link import retrieved
from gateway.mqtt.mqtt5_decoder import Decoder, Packet

WRITE_HIGH = 1 << 20
_PUBACK = 0x4002_0000


def pubacks(packet_ids: Iterable[int]) -> bytes:
    """Return a PUBACK with reason 0 for each id, four bytes each: 40 02, then the id (MQTT 5.0, section 3.4)."""
    packets = array("I", [_PUBACK | ident for ident in packet_ids])
    if byteorder == "little":
        packets.byteswap()
    return packets.tobytes()


class Connection(asyncio.BufferedProtocol):
    """Calls `take` with what each read brought, and `writable` when more may be sent.

    `lost` is done, with the reason, when nothing more can arrive.
    """

    def __init__(
        self, take: Callable[[list[Packet]], None], writable: Callable[[], None], broker: Broker, decoder: Decoder
    ) -> None:
        self._broker = broker
        self._loop = asyncio.get_running_loop()
        self._take = take
        self._writable = writable
        self._decoder = decoder
        self._transport: asyncio.Transport
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._is_flushing = False
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self.lost.add_done_callback(retrieved)
        self.closed = asyncio.Event()
        self.heard = self._loop.time()
        self._is_paused = False

    @property
    def is_congested(self) -> bool:
        """Whether enough waits for the socket."""
        return self._is_paused or self._out_bytes >= WRITE_HIGH

    def send(self, data: bytes) -> None:
        """Send with whatever else is sent in this turn of the loop."""
        self._out.append(data)
        self._out_bytes += len(data)
        if not self._is_flushing:
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    def pause(self) -> None:
        """Stop reading, so that the broker holds the rest."""
        if self._transport.is_reading():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if not self._transport.is_reading() and not self._transport.is_closing():
            self.heard = self._loop.time()  # silence counts only while something is read
            self._transport.resume_reading()

    @property
    def is_reading(self) -> bool:
        return self._transport.is_reading()

    def end(self, problem: SessionError) -> None:
        """Give the connection up; of several reasons the first counts."""
        if not self.lost.done():
            self.lost.set_exception(problem)

    def close(self) -> None:
        """Send what waits, then close."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close without sending what waits."""
        self._transport.abort()

    def _flush(self) -> None:
        self._is_flushing = False
        out, self._out = self._out, []
        was_full, self._out_bytes = self.is_congested, 0
        if out and not self._transport.is_closing():
            self._transport.write(b"".join(out))
            if was_full and not self._is_paused:
                self._writable()

    # ------------------------------------------------------------------ what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._decoder.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.heard = self._loop.time()
        try:
            if packets := self._decoder.wrote(nbytes):
                self._take(packets)
        except PacketMalformed as error:
            self.end(error)
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.end(self._broker.lost(error or ""))
        self.closed.set()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._writable()
