"""MQTT 5 packets are decoded the same however the bytes are cut, and no bytes crash the decoder."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from typing import Any

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import PacketMalformed
from gateway.mqtt.mqtt5_decoder import Decoder, Salvaged

# mqtt5 0.8 panics on a string that is not UTF-8; the decoder goes on, but Python reports the error that it left behind.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

TEXTS = st.characters(codec="utf-8")
TOPICS = st.text(st.characters(codec="utf-8", exclude_characters="+#\0"), min_size=1, max_size=40)
PUBLISHES = st.builds(
    lambda topic, payload, ident, name: mqtt5.PublishPacket(
        topic,
        payload,
        qos=mqtt5.QoS.AT_LEAST_ONCE if ident else mqtt5.QoS.AT_MOST_ONCE,
        packet_id=ident or None,
        user_properties=[(name, name)] if name else [],
    ),
    TOPICS,
    st.binary(max_size=300),
    st.integers(0, 65_535),
    st.text(TEXTS, max_size=5),
)
OTHERS = st.sampled_from([mqtt5.PingRespPacket(), mqtt5.PubAckPacket(7), mqtt5.DisconnectPacket()])
PACKETS = st.lists(PUBLISHES | OTHERS, max_size=8)


def publish(topic: bytes, payload: bytes = b"{}", properties: bytes = b"", first: int = 0x32) -> bytes:
    """Build a PUBLISH of QoS 1 with packet id 7, byte by byte."""
    body = len(topic).to_bytes(2) + topic + b"\0\7" + bytes([len(properties)]) + properties + payload
    return bytes([first, len(body)]) + body


def printed(packets: list[Any]) -> list[str]:
    """Return the packets in a form that compares by value."""
    return [repr(packet) for packet in packets]


@given(packets=PACKETS, cuts=st.lists(st.integers(0, 3000)))
def test_packets_are_the_same_wherever_the_stream_is_cut(packets: list[Any], cuts: list[int]) -> None:
    """Decoding any pieces of a stream gives the packets that were sent."""
    stream = b"".join(packet.write() for packet in packets)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    decoder = Decoder()
    decoded = [packet for start, stop in pairwise(places) for packet in decoder.feed(stream[start:stop])]
    assert printed(decoded) == printed(packets)


def test_each_packet_is_complete_with_its_last_byte() -> None:
    """In a stream of several kinds of packets, read byte by byte, none is decoded before or after its last byte."""
    packets: list[Any] = [
        mqtt5.ConnAckPacket(session_present=True, reason_str="hello"),
        mqtt5.PublishPacket("a/b", b"x" * 200, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=9),
        mqtt5.PingRespPacket(),
        mqtt5.SubAckPacket(1, [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]),
    ]
    decoder, ends = Decoder(), []
    stream = b"".join(packet.write() for packet in packets)
    for i in range(len(stream)):
        ends += [(i + 1, repr(packet)) for packet in decoder.feed(stream[i : i + 1])]
    sizes = [len(packet.write()) for packet in packets]
    assert ends == [(sum(sizes[: n + 1]), repr(packet)) for n, packet in enumerate(packets)]


@given(pieces=st.lists(st.binary(max_size=200), max_size=6))
def test_arbitrary_bytes_do_not_crash_it(pieces: list[bytes]) -> None:
    """Any bytes at all are packets, incomplete, or `PacketMalformed`: nothing else is raised."""
    decoder = Decoder()
    with suppress(PacketMalformed):
        for piece in pieces:
            decoder.feed(piece)


@given(
    packets=st.lists(PUBLISHES, min_size=1, max_size=4), flips=st.lists(st.tuples(st.integers(0), st.integers(0, 255)))
)
def test_damaged_packets_do_not_crash_it(packets: list[Any], flips: list[tuple[int, int]]) -> None:
    """Good packets with some bytes changed are messages or `PacketMalformed`."""
    stream = bytearray(b"".join(packet.write() for packet in packets))
    for place, value in flips:
        stream[place % len(stream)] = value
    decoder = Decoder()
    with suppress(PacketMalformed):
        for packet in decoder.feed(bytes(stream)):
            assert isinstance(packet, Salvaged) or type(packet).__module__ == "mqtt5"


@pytest.mark.parametrize(
    ("packet", "topic"),
    [
        (publish(b"testbed/\xff/x"), "testbed/\ufffd/x"),
        (publish(b"testbed/a/x", properties=b"\x7f"), "testbed/a/x"),
        (publish(b"testbed/a/x", properties=b"\x26\0\1\xff\0\1v"), "testbed/a/x"),
    ],
    ids=["topic", "unknown property", "user property"],
)
def test_message_that_the_codec_cannot_read_is_salvaged(packet: bytes, topic: str) -> None:
    """Whatever a device put into topic or properties, its message arrives, with the packet id to acknowledge, and so do
    those around it."""
    good = publish(b"a/b", b"good")
    decoder = Decoder()
    decoded = [one for byte in good + packet * 2 + good for one in decoder.feed(bytes([byte]))]
    assert len(decoded) == 4
    assert [decoded[0].payload, decoded[3].payload] == [b"good", b"good"]
    for salvaged in decoded[1:3]:
        assert (salvaged.packet_id, salvaged.topic, salvaged.payload) == (7, topic, b"{}")
    assert len(Decoder().feed(good + packet * 2 + good)) == 4


@pytest.mark.parametrize(
    "stream", [b"\x20\x02\x00\x01", b"\x00\x00", b"\x36\x05\0\1a\0\1", b"\x32\x03\0\x09a", b"\x30\xff\xff\xff\xff\x01"]
)
def test_bytes_that_are_not_mqtt_5_are_malformed(stream: bytes) -> None:
    """For example a packet of an older version, an unknown type, QoS 3, a topic longer than its packet."""
    with pytest.raises(PacketMalformed, match="the broker sent"):
        Decoder().feed(stream)
