"""Fixed header of MQTT, which says where a packet ends: the same in 3.1.1 (section 2.2) and 5 (section 2.1). Pure."""

from __future__ import annotations

from gateway.errors import PacketMalformed

PUBLISH = 3
PUBACK = 4
SUBACK = 9
UNSUBACK = 11
MAX_HEADER = 5


def kind(packet: bytes | memoryview, at: int = 0) -> int:
    """Return the type of the packet that begins at a place."""
    return packet[at] >> 4


def packet_size(data: bytes, at: int = 0) -> int | None:
    """Return the bytes of the packet that begins at a place; None where more must arrive to know it.

    Raises:
        PacketMalformed: its length is none.
    """
    try:
        length, digits = variable(data, at + 1)
    except IndexError:
        return None
    return 1 + digits + length


def variable(data: bytes, at: int) -> tuple[int, int]:
    """Return a variable byte integer (MQTT 5.0, section 1.5.5) and how many bytes it takes.

    Raises:
        PacketMalformed: it takes more than four.
    """
    value = 0
    for i in range(4):
        value |= (data[at + i] & 0x7F) << (7 * i)
        if data[at + i] < 0x80:
            return value, i + 1
    raise PacketMalformed("the broker sent a length of more than four bytes")
