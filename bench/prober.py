"""A prober, `python -m bench.prober SPEC`: publishes probes beside the load, and looks for them in the store.

A question is {"seconds": s}. Each probe's latency is from when it was due to when a look found it: up to one pause
between looks more than it took (5 ms in SQLite, 20 ms in InfluxDB).
"""

from __future__ import annotations

import time
from typing import Any

from bench import helper, packets
from bench.load import Connection
from bench.looking import look
from bench.packets import Version
from bench.shape import MEASUREMENT, Shape
from bench.stats import NS, latency_ms

FIRST_PROBE = 9_000_000_000
DEVICE = "dev-probe"
RATE = 100
VERSION: Version = 4
WAIT_NS = 60 * NS


class Prober:
    """A device of the first startup."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._shape = Shape(**spec["shape"])
        self._topic = f"testbed/{self._shape.slug(0)}/{DEVICE}/{MEASUREMENT}"
        self._connection = Connection(spec["port"], "prober", VERSION, 1)
        self._look = look(spec["look"], DEVICE)
        self._latencies: list[int] = []

    def run(self, question: dict[str, Any]) -> dict[str, Any]:
        """Publish and look until every probe is found, or long enough after the last."""
        probes = int(question["seconds"] * RATE)
        self._latencies = []
        start = time.monotonic_ns() + NS // 100
        sent, next_look = 0, start
        deadline = start + probes * NS // RATE + WAIT_NS
        while len(self._latencies) < probes and (now := time.monotonic_ns()) < deadline:
            if sent < probes and now >= start + sent * NS // RATE:
                self._publish(sent)
                sent += 1
            elif now >= next_look:
                self._find(start)
                next_look = time.monotonic_ns() + self._look.every
            else:
                time.sleep(0.001)
        return {"sent": sent, "lost": sent - len(self._latencies), **latency_ms(self._latencies)}

    def _publish(self, number: int) -> None:
        body = self._shape.body(0, FIRST_PROBE + number)
        self._connection.send(packets.publish(self._topic, body, 1, number % 65_535 + 1, VERSION), 1)
        self._connection.count_acks()

    def _find(self, start: int) -> None:
        found = self._look()
        now = time.monotonic_ns()
        for sequence in found:
            self._latencies.append(now - start - (sequence - FIRST_PROBE) * NS // RATE)


def main() -> None:
    """Connect, then probe."""
    helper.serve(Prober(helper.spec()).run)


if __name__ == "__main__":
    main()
