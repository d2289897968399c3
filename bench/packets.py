"""MQTT packets as bytes (MQTT 3.1.1 and 5): only those that a load and a bare subscriber need. Pure.

Nothing is decoded: packets of one length follow each other, so that a few slices find what matters of a thousand of
them.
"""

from __future__ import annotations

from typing import Literal

Version = Literal[4, 5]
"""Protocol level that CONNECT names: 4 is MQTT 3.1.1."""

PUBLISH = (0x30, 0x32)
"""First byte of a PUBLISH of QoS 0 and 1, neither retained nor sent before."""

PUBACK = 0x40
PUBACK_LENGTH = 4


def remaining_length(length: int) -> bytes:
    """Encode a variable byte integer."""
    encoded = bytearray()
    while True:
        length, byte = divmod(length, 128)
        encoded.append(byte | (0x80 if length else 0))
        if not length:
            return bytes(encoded)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def _packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + remaining_length(len(body)) + body


def connect(
    client_id: str,
    version: Version,
    *,
    receive_maximum: int = 0,
    session_expiry: int = 0,
    account: tuple[str, str] | None = None,
) -> bytes:
    """Encode CONNECT without keep-alive; `account` is a user name and its password.

    MQTT 5: a clean start; the session expires `session_expiry` seconds after.
    """
    properties = b""
    if version == 5:
        if session_expiry:
            properties += b"\x11" + session_expiry.to_bytes(4, "big")
        if receive_maximum:
            properties += b"\x21" + receive_maximum.to_bytes(2, "big")
        properties = remaining_length(len(properties)) + properties
    flags, payload = 0x02, _text(client_id)
    if account:
        flags, payload = flags | 0xC0, payload + b"".join(map(_text, account))
    return _packet(0x10, _text("MQTT") + bytes((version, flags, 0, 0)) + properties + payload)


def subscribe(topic_filter: str, qos: int, version: Version) -> bytes:
    """Encode SUBSCRIBE with packet id 1."""
    properties = b"\x00" if version == 5 else b""
    return _packet(0x82, b"\x00\x01" + properties + _text(topic_filter) + bytes((qos,)))


def unsubscribe(topic_filter: str, version: Version) -> bytes:
    """Encode UNSUBSCRIBE with packet id 1."""
    properties = b"\x00" if version == 5 else b""
    return _packet(0xA2, b"\x00\x01" + properties + _text(topic_filter))


def publish(topic: str, payload: bytes, qos: int, packet_id: int, version: Version, *, retained: bool = False) -> bytes:
    """Encode PUBLISH of QoS 0 or 1; `packet_id` is ignored with QoS 0."""
    ident = packet_id.to_bytes(2, "big") if qos else b""
    properties = b"\x00" if version == 5 else b""
    return _packet(PUBLISH[qos] | retained, _text(topic) + ident + properties + payload)


def id_offset(packet: bytes) -> int:
    """Return where the packet id of a PUBLISH of QoS 1 begins."""
    after = 1
    while packet[after] & 0x80:
        after += 1
    topic = after + 1
    return topic + 2 + int.from_bytes(packet[topic : topic + 2], "big")


def disconnect(version: Version) -> bytes:
    """Encode DISCONNECT. MQTT 5: the session ends with it, whatever CONNECT said."""
    return _packet(0xE0, b"\x00\x05\x11\x00\x00\x00\x00" if version == 5 else b"")


def packet_end(data: bytes | bytearray) -> int:
    """Return the length of the packet at the beginning of `data`; 0 while it is unknown."""
    length = 0
    for index, byte in enumerate(data[1:5]):
        length |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            return 2 + index + length
    return 0


def acknowledge(data: bytes | bytearray, stride: int, ident: int) -> bytearray:
    """Encode the PUBACKs of whole PUBLISH packets of `stride` bytes, with packet ids `ident` bytes into each."""
    count = len(data) // stride
    acks = bytearray(PUBACK_LENGTH * count)
    acks[0::4] = b"\x40" * count
    acks[1::4] = b"\x02" * count
    acks[2::4] = data[ident::stride]
    acks[3::4] = data[ident + 1 :: stride]
    return acks
