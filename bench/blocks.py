"""Blocks of PUBLISH packets, built before the clock starts.

A block is `size` packets of one length, one after the other. All that changes from one use to the next are the packet
ids and the upper digits of the sequence numbers: a dozen slices stamp a thousand packets, well under 0.1 µs each.
"""

from __future__ import annotations

from bench import packets
from bench.packets import Version
from bench.shape import FIRST_SEQUENCE, SEQUENCE_DIGITS, Shape

BLOCK_BYTES = 4 << 20
ALL_BYTES = 256 << 20
PACKET_IDS = 60_000
"""Packet ids that a connection uses in turn, from 1 on."""


class Blocks:
    """Blocks of a shape, one for each stretch of devices, stamped in place."""

    def __init__(self, shape: Shape, qos: int, version: Version) -> None:
        first = packets.publish(shape.topic(0), shape.body(0), qos, 1, version)
        self.stride = len(first)
        self.size = _size(self.stride)
        self._qos = qos
        self._id = packets.id_offset(first)
        self._digits = self.stride - len(shape.body(0)) + shape.sequence_offset()
        self._blocks = [self._build(shape, number, version) for number in range(self._count(shape))]
        ids = range(1, PACKET_IDS + 1)
        self._high = bytes(one >> 8 for one in ids)
        self._low = bytes(one & 0xFF for one in ids)

    def stamped(self, sequence: int, packet_id: int) -> bytearray:
        """Return the packets with the sequence numbers from `sequence` and the packet ids from `packet_id` on.

        `sequence` is a multiple of `size`. The next call for the same devices stamps the same buffer again.
        """
        block = self._blocks[sequence // self.size % len(self._blocks)]
        upper = str(FIRST_SEQUENCE + sequence)[: SEQUENCE_DIGITS - len(str(self.size)) + 1]
        for place, digit in enumerate(upper.encode(), self._digits):
            block[place :: self.stride] = bytes((digit,)) * self.size
        if self._qos:
            block[self._id :: self.stride] = self._high[packet_id - 1 : packet_id - 1 + self.size]
            block[self._id + 1 :: self.stride] = self._low[packet_id - 1 : packet_id - 1 + self.size]
        return block

    def _count(self, shape: Shape) -> int:
        """Return enough blocks for every device to have its turn, within bounds."""
        wanted = -(-shape.devices // self.size)
        affordable = max(1, ALL_BYTES // (self.size * self.stride))
        if wanted > affordable:
            raise ValueError(f"{shape.devices} devices with {self.stride} bytes a message: more than {ALL_BYTES} bytes")
        return wanted

    def _build(self, shape: Shape, number: int, version: Version) -> bytearray:
        messages = range(number * self.size, (number + 1) * self.size)
        return bytearray().join(
            packets.publish(shape.topic(one), shape.body(one, FIRST_SEQUENCE + one % self.size), self._qos, 1, version)
            for one in messages
        )


def _size(stride: int) -> int:
    """Return the packets of a block: a power of ten, so that the lower digits of its sequence numbers never change."""
    for size in (1000, 100):
        if size * stride <= BLOCK_BYTES:
            return size
    return 10
