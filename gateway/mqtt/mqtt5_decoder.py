"""Bytes off the socket -> MQTT 5 packets. Pure; the codec is mqtt5's, source: MQTT 5.0, sections 2.1 and 3.3.

Invariants:
- However the bytes are cut into reads, the packets are the same, and no byte is read more often than it takes to see
  that a packet is still incomplete.
- A PUBLISH that the codec cannot read, whatever a device put into its properties or topic, is a message all the same:
  the gateway must be able to acknowledge it, or the broker would deliver it for ever. So is one that is larger than
  `max_packet`: its first bytes are kept, the others are read into the void.
- An acknowledgement with a reason that the codec does not know is one that fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mqtt5

from gateway.errors import PacketMalformed
from gateway.model import Message
from gateway.mqtt import framing
from gateway.mqtt.framing import PUBACK, PUBLISH, SUBACK, UNSUBACK, packet_size, variable
from gateway.mqtt.session import MAX_PACKET, READ_BYTES

Packet = Any
"""One of mqtt5's packets, or a `Salvaged`."""

MAX_PROPERTIES = 4096
"""Bytes of properties above which nothing is kept of the payload of a message that is too large: what a session keeps
of a payload is either more than any quota permits, or nothing."""
_PANIC = "PanicException"
_NOT_UTF_8 = "text that is not UTF-8"


class Salvaged:
    """A PUBLISH that the codec cannot read, as a `model.Message`."""

    __slots__ = ("cut", "packet_id", "payload", "qos", "retain", "topic")

    def __init__(self, message: Message) -> None:
        self.topic, self.payload, self.qos, self.retain, self.packet_id, self.cut = message


class Decoder:
    """Decoder of one connection: the socket writes into `buffer`, `wrote` returns the packets that are complete then.

    All connections of an event loop share one `scratch`: reading and decoding are one step. A connection keeps only
    the bytes of an incomplete packet, and has a buffer of its own while a packet larger than `scratch` arrives; of one
    that is larger than `max_packet`, only as much.
    """

    def __init__(self, scratch: bytearray | None = None, max_packet: int = MAX_PACKET) -> None:
        self._scratch = memoryview(bytearray(READ_BYTES) if scratch is None else scratch)
        self._max_packet = max(max_packet, 2 * len(self._scratch))  # a topic always fits
        self._rest = b""
        self._needed = 0
        self._cut = 0
        self._left_out = 0
        """Bytes of the `_cut` ones that are still to come."""
        self._large: memoryview | None = None
        self._end = 0
        self._is_careful = False
        """Whether messages are no longer read by the codec, since it has panicked."""

    @property
    def buffer(self) -> memoryview:
        """Room for the next bytes; never empty."""
        if self._large is not None:
            return self._large[self._end :] or self._scratch[: self._left_out]
        self._scratch[: len(self._rest)] = self._rest
        return self._scratch[len(self._rest) :]

    def wrote(self, size: int) -> list[Packet]:
        """Return the packets that `size` more bytes in `buffer` complete, in order.

        Raises:
            PacketMalformed: no packet can start like this.
        """
        if self._large is None:
            view = self._scratch[: len(self._rest) + size]
        else:
            self._grow(size)
            view = self._large[: self._end]
        if len(view) < self._needed or self._left_out:
            if self._large is None:
                self._rest = bytes(view)
            return []
        if self._cut:
            message = _publish(bytes(view), self._cut)
            self._keep(b"")
            return [message]
        packets, done = self._read_all(view)
        self._keep(bytes(view[done:]))
        return packets

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets that `data` completes, for callers without a socket."""
        packets = []
        while data:
            buffer = self.buffer
            part = data[: len(buffer)]
            buffer[: len(part)] = part
            packets += self.wrote(len(part))
            data = data[len(part) :]
        return packets

    def _grow(self, size: int) -> None:
        """Note that so many more bytes of the packet in `_large` have arrived."""
        if self._end < self._needed:
            self._end += size
        else:
            self._left_out -= size

    def _keep(self, rest: bytes) -> None:
        """Keep the bytes of an incomplete packet; make a buffer for one that is larger than `scratch`."""
        self._rest, self._large = rest, None
        size = packet_size(rest[: framing.MAX_HEADER]) or 0
        self._needed = min(size, self._max_packet)
        self._cut = self._left_out = size - self._needed
        if self._cut and framing.kind(rest) != PUBLISH:
            raise PacketMalformed(f"the broker sent a packet of {size:,} bytes that is no message")
        if self._needed >= len(self._scratch):
            self._large = memoryview(bytearray(self._needed))
            self._large[: len(rest)] = rest
            self._end = len(rest)
            self._rest = b""

    def _read_all(self, view: memoryview) -> tuple[list[Packet], int]:
        """Return the complete packets in `view`, and where the first incomplete one begins."""
        packets: list[Packet] = []
        end, problem = self._read(view, 0, packets)
        while problem:
            size = _salvage(view, end, problem, packets)
            if size is None:
                break
            end, problem = self._read(view, end + size, packets)
        return packets, end

    def _read(self, view: memoryview, end: int, packets: list[Packet]) -> tuple[int, str]:
        """Read on from `end`, as far as the codec can. Return where it stopped, and why, unless bytes were missing.

        mqtt5 0.8 panics on text that is not UTF-8, and writes a dozen lines to stderr: it is tried once a connection.
        """
        length, read, keep, is_careful = len(view), mqtt5.read, packets.append, self._is_careful
        try:
            while end < length:
                if is_careful and view[end] >> 4 == PUBLISH:
                    return end, _NOT_UTF_8
                packet, size = read(view[end:])
                keep(packet)
                end += size
        except IndexError:
            pass
        except ValueError as error:
            return end, str(error)
        except BaseException as error:  # pyo3's panic is not an Exception
            if type(error).__name__ != _PANIC:
                raise
            self._is_careful = True
            return end, _NOT_UTF_8
        return end, ""


def _salvage(data: memoryview, start: int, problem: str, packets: list[Packet]) -> int | None:
    """Add what the packet at `start` means, as far as it can be known. Return its length; None if it is incomplete."""
    salvage = _SALVAGED.get(framing.kind(data, start))
    size = packet_size(bytes(data[start : start + framing.MAX_HEADER]))
    if salvage is None:
        raise PacketMalformed(f"the broker sent something that is not MQTT 5: {problem}")
    if size is None or start + size > len(data):
        return None
    try:
        packets += salvage(bytes(data[start : start + size]))
    except IndexError:
        raise PacketMalformed(f"the broker sent a packet that ends too early: {problem}") from None
    return size


def _publish(packet: bytes, cut: int = 0) -> Salvaged:
    """Return the message of a PUBLISH, without its properties; `cut` bytes are missing at its end."""
    qos = (packet[0] >> 1) & 3
    at = 1 + variable(packet, 1)[1]
    topic_end = at + 2 + int.from_bytes(packet[at : at + 2])
    topic = packet[at + 2 : topic_end].decode(errors="replace")
    if topic_end > len(packet) or qos > 1:
        raise PacketMalformed(f"the broker sent a PUBLISH of QoS {qos}, or one that is shorter than its topic")
    packet_id = int.from_bytes(packet[topic_end : topic_end + 2]) if qos else None
    body = topic_end + (2 if qos else 0)
    size, digits = variable(packet, body)
    begins = body + digits + size
    if begins > len(packet) + cut:
        raise IndexError("the properties are longer than the packet")
    if cut and size > MAX_PROPERTIES:
        return Salvaged(Message(topic, b"", qos, bool(packet[0] & 1), packet_id, max(1, len(packet) + cut - begins)))
    return Salvaged(Message(topic, packet[begins:], qos, bool(packet[0] & 1), packet_id, cut))


def _puback(packet: bytes) -> list[Packet]:
    ident, _ = _acknowledgement(packet)
    return [mqtt5.PubAckPacket(ident, reason_code=mqtt5.PubAckReasonCode.UNSPECIFIED_ERROR)]


def _suback(packet: bytes) -> list[Packet]:
    ident, at = _acknowledgement(packet)
    size, digits = variable(packet, at)
    codes = [_GRANTED.get(code, _Code.UNSPECIFIED_ERROR) for code in packet[at + digits + size :]]
    return [mqtt5.SubAckPacket(ident, codes)]


def _acknowledgement(packet: bytes) -> tuple[int, int]:
    """Return the packet id of an acknowledgement, and where the rest begins."""
    at = 1 + variable(packet, 1)[1]
    if at + 2 > len(packet):
        raise IndexError("no packet id")
    return int.from_bytes(packet[at : at + 2]), at + 2


_Code = mqtt5.SubAckReasonCode
_GRANTED = {
    int(code): code
    for code in (_Code.GRANTED_QOS_AT_MOST_ONCE, _Code.GRANTED_QOS_AT_LEAST_ONCE, _Code.GRANTED_QOS_EXACTLY_ONCE)
}
_SALVAGED: Mapping[int, Callable[[bytes], list[Packet]]] = {
    PUBLISH: lambda packet: [_publish(packet)],
    PUBACK: _puback,
    SUBACK: _suback,
    UNSUBACK: lambda _packet: [],
}
