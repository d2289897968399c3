"""The bench's packets are MQTT: an independent implementation reads them, and reads what acknowledges them."""

from __future__ import annotations

import json

import pytest

from bench import packets
from bench.blocks import Blocks
from bench.packets import Version
from bench.shape import FIRST_SEQUENCE, Shape

SHAPES = [
    Shape(),
    Shape(startups=500, devices=20_000),
    Shape(fields=64),
    Shape(readings=100),
    Shape(payload=1024),
    Shape(payload=16 << 10),
    Shape(readings=3, payload=2048),
    Shape(fields=1),
]


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_a_remaining_length_is_read_back(length: int) -> None:
    """A packet's end is found from its own length, and not before that is whole."""
    head = b"\x30" + packets.remaining_length(length)
    assert packets.packet_end(head) == len(head) + length
    assert all(packets.packet_end(head[:cut]) == 0 for cut in range(len(head)))


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("payload", [b"", b"x" * 60, b"x" * 20_000])
def test_the_packet_id_is_at_its_documented_offset(payload: bytes, version: Version) -> None:
    """Whatever the length of topic and payload, two bytes behind the topic are the packet id."""
    packet = packets.publish("testbed/acme/air-01/climate", payload, 1, 0xABCD, version)
    at = packets.id_offset(packet)
    assert packet[at : at + 2] == b"\xab\xcd"
    assert packet.endswith(payload)
    assert packets.packet_end(packet) == len(packet)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_each_message_is_acknowledged_by_its_own_id(count: int) -> None:
    """PUBACKs of four bytes, in order, with the ids of the messages."""
    several = [packets.publish("a/b", b"payload", 1, number, 5) for number in (1, 255, 65_535)][:count]
    stride = len(packets.publish("a/b", b"payload", 1, 1, 5))
    acks = packets.acknowledge(b"".join(several), stride, packets.id_offset(b"".join(several) or b"\x30\x03\x00\x01a"))
    assert acks == b"".join(b"\x40\x02" + number.to_bytes(2, "big") for number in (1, 255, 65_535)[:count])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_message_of_a_shape_has_one_length_and_the_requested_fields(shape: Shape) -> None:
    """A payload is JSON with so many records of so many fields, and as long as asked, or as its fields need."""
    bodies = [shape.body(number, FIRST_SEQUENCE + number) for number in (0, 1, 999, 12_345)]
    assert len({len(body) for body in bodies}) == 1
    assert len(bodies[0]) >= shape.payload
    for body in bodies:
        read = json.loads(body)
        records = read if shape.readings > 1 else [read]
        assert len(records) == shape.readings
        assert all(len(record.keys() - {"note"}) == shape.fields for record in records)
        assert {name for record in records for name in record} == set(shape.rule(0)["fields"])
    assert len({len(shape.topic(number)) for number in range(shape.devices)}) == 1


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("version", [4, 5])
def test_a_stamped_block_holds_the_messages_that_it_should(shape: Shape, version: Version) -> None:
    """Each packet of a block has its own topic, packet id and sequence number, also when the block is used again."""
    blocks = Blocks(shape, 1, version)
    for turn in (0, 7, 123):
        first = turn * blocks.size
        block = bytes(blocks.stamped(first, 1 + blocks.size * (turn % 5)))
        assert len(block) == blocks.size * blocks.stride
        for one in (0, 1, blocks.size - 1):
            packet = block[one * blocks.stride : (one + 1) * blocks.stride]
            at = packets.id_offset(packet)
            assert int.from_bytes(packet[at : at + 2], "big") == 1 + blocks.size * (turn % 5) + one
            assert packet[at - len(shape.topic(0)) : at].decode() == shape.topic(first + one)
            read = json.loads(packet[at + 2 + (version == 5) :])
            assert (read[0] if shape.readings > 1 else read)["sequence"] == FIRST_SEQUENCE + first + one


def test_impossible_shape_is_rejected() -> None:
    """No startup without a device."""
    with pytest.raises(ValueError, match="devices: expected one for each of 5 startups; got 3"):
        Shape(startups=5, devices=3)
