"""Bytes off the socket -> MQTT 5 packets. Pure; the codec is mqtt5's, source: MQTT 5.0, sections 2.1 and 3.3.

Invariants:
- However the bytes are cut into reads, the packets are the same, and no byte is read more often than it takes to see
  that a packet is still incomplete.
- A PUBLISH that the codec cannot read, whatever a device put into its properties or topic, is a message all the same:
  the gateway must be able to acknowledge it, or the broker would deliver it for ever.
"""

from __future__ import annotations

from typing import Any

import mqtt5

from gateway.errors import PacketMalformed
from gateway.model import Message
from gateway.mqtt.session import READ_BYTES

Packet = Any
"""One of mqtt5's packets, or a `Salvaged`."""

_PUBLISH = 3
_MAX_HEADER = 5
_PANIC = "PanicException"


class Salvaged:
    """A PUBLISH that the codec cannot read, as a `model.Publish`; `packet_id` is None with QoS 0."""

    __slots__ = ("packet_id", "payload", "qos", "retain", "topic")

    def __init__(self, message: Message) -> None:
        self.topic, self.payload, self.qos, self.retain, self.packet_id = message


class Decoder:
    """Decoder of one connection: the socket writes into `buffer`, `wrote` returns the packets that are complete then.

    All connections of an event loop share one `scratch`: reading and decoding are one step. A connection keeps only
    the bytes of an incomplete packet, and has a buffer of its own while a packet larger than `scratch` arrives.
    """

    def __init__(self, scratch: bytearray | None = None) -> None:
        self._scratch = memoryview(bytearray(READ_BYTES) if scratch is None else scratch)
        self._rest = b""
        self._needed = 0
        self._large: memoryview | None = None
        self._end = 0

    @property
    def buffer(self) -> memoryview:
        """Room for the next bytes; never empty."""
        if self._large is not None:
            return self._large[self._end :]
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
            self._end += size
            view = self._large[: self._end]
        if len(view) < self._needed:
            if self._large is None:
                self._rest = bytes(view)
            return []
        packets, done = _read_all(view)
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

    def _keep(self, rest: bytes) -> None:
        """Keep the bytes of an incomplete packet; make a buffer for one that is larger than `scratch`."""
        self._rest, self._large = rest, None
        self._needed = _size(rest[:_MAX_HEADER]) or 0
        if self._needed >= len(self._scratch):
            self._large = memoryview(bytearray(self._needed))
            self._large[: len(rest)] = rest
            self._end = len(rest)
            self._rest = b""


def _read_all(view: memoryview) -> tuple[list[Packet], int]:
    """Return the complete packets in `view`, and where the first incomplete one begins."""
    packets: list[Packet] = []
    end, problem = _read(view, 0, packets)
    while problem:
        size = _salvage(view, end, problem, packets)
        if size is None:
            break
        end, problem = _read(view, end + size, packets)
    return packets, end


def _read(view: memoryview, end: int, packets: list[Packet]) -> tuple[int, str]:
    """Read on from `end`, as far as the codec can. Return where it stopped, and why if it was not for want of bytes."""
    length, read, keep = len(view), mqtt5.read, packets.append
    try:
        while end < length:
            packet, size = read(view[end:])
            keep(packet)
            end += size
    except IndexError:
        pass
    except ValueError as error:
        return end, str(error)
    except BaseException as error:  # pyo3's panic is not an Exception: mqtt5 0.8 panics on a topic that is not UTF-8
        if type(error).__name__ != _PANIC:
            raise
        return end, "the topic is not UTF-8"
    return end, ""


def _salvage(data: memoryview, start: int, problem: str, packets: list[Packet]) -> int | None:
    """Add the PUBLISH that begins at `start`, without its properties. Return its length; None if incomplete."""
    size = _size(bytes(data[start : start + _MAX_HEADER]))
    if data[start] >> 4 != _PUBLISH or size is None:
        raise PacketMalformed(f"the broker sent something that is not MQTT 5: {problem}")
    if start + size > len(data):
        return None
    try:
        packets.append(_publish(bytes(data[start : start + size])))
    except IndexError:
        raise PacketMalformed(f"the broker sent a PUBLISH that ends too early: {problem}") from None
    return size


def _publish(packet: bytes) -> Salvaged:
    qos = (packet[0] >> 1) & 3
    at = 1 + _variable(packet, 1)[1]
    topic_end = at + 2 + int.from_bytes(packet[at : at + 2])
    topic = packet[at + 2 : topic_end].decode(errors="replace")
    if topic_end > len(packet) or qos > 1:
        raise PacketMalformed(f"the broker sent a PUBLISH of QoS {qos}, or one that is shorter than its topic")
    packet_id = int.from_bytes(packet[topic_end : topic_end + 2]) if qos else None
    body = topic_end + (2 if qos else 0)
    size, digits = _variable(packet, body)
    if body + digits + size > len(packet):
        raise IndexError("the properties are longer than the packet")
    return Salvaged(Message(topic, packet[body + digits + size :], qos, bool(packet[0] & 1), packet_id))


def _size(header: bytes) -> int | None:
    """Return the length in bytes of the packet that begins so; None where more bytes must arrive to know it."""
    try:
        length, digits = _variable(header, 1)
    except IndexError:
        return None
    return 1 + digits + length


def _variable(data: bytes, at: int) -> tuple[int, int]:
    """Return a variable byte integer (MQTT 5.0, section 1.5.5) and how many bytes it takes."""
    value = 0
    for i in range(4):
        value |= (data[at + i] & 0x7F) << (7 * i)
        if data[at + i] < 0x80:
            return value, i + 1
    raise PacketMalformed("the broker sent a length of more than four bytes")
