"""Bytes off the socket -> packets of MQTT 3.1.1. Pure; source: MQTT 3.1.1, sections 2.2 and 3.3.

Invariants:
- A PUBLISH is a message, whatever its topic is and however large it is: the gateway must be able to acknowledge it, or
  the broker would deliver it for ever. paho would not read an empty topic, and would keep all of 256 MB.
- At most `max_packet` bytes are kept of a packet. One that is larger and no message is malformed.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.errors import PacketMalformed
from gateway.model import Message
from gateway.mqtt import framing
from gateway.mqtt.framing import PUBLISH, SUBACK, packet_size, variable
from gateway.mqtt.session import MAX_PACKET, READ_BYTES

_CODES = (0, 1, 2)
_FAILURE = 0x80


class Frames:
    """Frames of one connection."""

    def __init__(self, max_packet: int = MAX_PACKET) -> None:
        self._max_packet = max(max_packet, 2 * READ_BYTES)  # a topic always fits
        self._rest = b""
        self._head = b""
        """Beginning of a packet that is too large, ..."""
        self._left_out = 0
        """... and how many of its bytes are still to come."""
        self._cut = 0

    def feed(self, data: bytes) -> Iterator[Message | bytes]:
        """Yield the packets that `data` completes, in order: messages, and all others as they are.

        Raises:
            PacketMalformed: no packet can be like this.
        """
        if self._left_out:
            over = data[self._left_out :]
            self._left_out = max(0, self._left_out - len(data))
            if self._left_out:
                return
            yield _message(self._head, self._cut)
            data = over
        data, at = self._rest + data, 0
        while at < len(data) and (size := packet_size(data, at)):
            kept = min(size, self._max_packet)
            if size > kept and framing.kind(data, at) != PUBLISH:
                raise PacketMalformed(f"the broker sent a packet of {size:,} bytes that is no message")
            if at + kept > len(data):
                break
            packet = data[at : at + kept]
            at += size
            if at > len(data):
                self._head, self._cut, self._left_out = packet, size - kept, at - len(data)
            elif framing.kind(packet) == PUBLISH:
                yield _message(packet, size - kept)
            else:
                yield _with_known_codes(packet)
        self._rest = data[at:]


def _message(packet: bytes, cut: int) -> Message:
    """Return the message of a PUBLISH; `cut` bytes are missing at its end."""
    qos = (packet[0] >> 1) & 3
    at = 1 + variable(packet, 1)[1]
    topic_end = at + 2 + int.from_bytes(packet[at : at + 2])
    begins = topic_end + (2 if qos else 0)
    if begins > len(packet) or qos > 1:
        raise PacketMalformed(f"the broker sent a PUBLISH of QoS {qos}, or one that is shorter than its topic")
    topic = packet[at + 2 : topic_end].decode(errors="replace")
    packet_id = int.from_bytes(packet[topic_end:begins]) if qos else None
    return Message(topic, packet[begins:], qos, bool(packet[0] & 1), packet_id, cut)


def _with_known_codes(packet: bytes) -> bytes:
    """Return a packet that paho can read: a SUBACK with a return code that does not exist is one of a failure."""
    if framing.kind(packet) != SUBACK:
        return packet
    begins = 1 + variable(packet, 1)[1] + 2
    return packet[:begins] + bytes(code if code in _CODES else _FAILURE for code in packet[begins:])
