"""Settings of the devices' behaviour on the network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings: times in seconds, `backlog` in messages.

    A device acts once in a `period`. It waits `first_wait` after its first failure to connect, and never longer
    than `longest_wait`. It loses its Wi-Fi every `outage_every` on average (0: never), for `outage`.
    """

    period: float = 1.0
    backlog: int = 1000
    first_wait: float = 0.5
    longest_wait: float = 30.0
    outage_every: float = 180.0
    outage: tuple[float, float] = (1.0, 8.0)

    def wait(self, failures: int, rng: Random) -> float:
        """Return the seconds before the next attempt: twice as long each time, with jitter."""
        longest = min(self.longest_wait, self.first_wait * 2.0 ** min(failures, 16))
        return rng.uniform(longest / 2, longest)

    def until_outage(self, rng: Random) -> float:
        """Return the seconds that a new connection will last; infinity if it is not lost on purpose."""
        return rng.expovariate(1 / self.outage_every) if self.outage_every else math.inf
