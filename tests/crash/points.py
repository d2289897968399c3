"""Points at which the gateway is killed, without code for it in the product: see `inject/sitecustomize.py`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

from tests.builders import ROOT

INJECT = Path(__file__).parent / "inject"


@dataclass(frozen=True, slots=True)
class Point:
    """A function of the gateway, and when in its call the process is killed: `within` is up to `longest` seconds after
    it began. `calls` are the first and the last call that may be the one."""

    function: str
    when: Literal["before", "within", "after"]
    calls: tuple[int, int] = (5, 60)
    longest: float = 0.004

    def env(self, chance: Random, tokens: Path, times: int) -> Mapping[str, str]:
        """Return what the gateway's environment needs, for a point that is chosen by chance."""
        tokens.mkdir(exist_ok=True)
        point = {
            "function": self.function,
            "when": self.when,
            "call": chance.randint(*self.calls),
            "delay": chance.uniform(0, self.longest),
            "tokens": str(tokens),
            "times": times,
        }
        path = os.pathsep.join([str(INJECT), str(ROOT)])
        return {"CRASH_POINT": json.dumps(point), "PYTHONPATH": path}


def reached(tokens: Path) -> int:
    """Return how many times the gateway was killed at its point."""
    return len(list(tokens.iterdir())) if tokens.exists() else 0
