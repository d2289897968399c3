"""Reports of a running fleet, for people and programs."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from rich.box import SIMPLE
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from devices.client import Counters, DeviceClient

REDRAW = 0.5  # seconds between two views of the table
PRINT_EVERY = 5.0  # seconds between two lines of plain progress
REPEAT_AFTER = 60.0  # seconds before the same notice is shown again

COLUMNS = {  # field of Totals -> heading, short enough for a table of 80 characters
    "devices": "devices",
    "connected": "connected",
    "published": "published",
    "acknowledged": "acknowledged",
    "misbehaved": "wrong",
    "feedback": "feedback",
}


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over some devices. `misbehaved` counts acknowledged messages that were wrong on purpose."""

    devices: int
    connected: int
    made: int
    published: int
    repeated: int
    acknowledged: int
    misbehaved: int
    dropped: int
    feedback: int

    def __str__(self) -> str:
        text = (
            f"{self.made} messages made, {self.acknowledged} acknowledged ({self.misbehaved} of them wrong on "
            f"purpose), {self.feedback} feedback received"
        )
        if self.dropped:
            text += f", {self.dropped} dropped from full backlogs"
        if waiting := self.made - self.acknowledged - self.dropped:
            text += f", {waiting} not sent yet"
        return text


def total(devices: Iterable[Counters]) -> Totals:
    """Add up the counters of devices."""
    counted = list(devices)
    return Totals(
        devices=len(counted),
        connected=sum(one.connected for one in counted),
        made=sum(one.made for one in counted),
        published=sum(one.published for one in counted),
        repeated=sum(one.repeated for one in counted),
        acknowledged=sum(one.acknowledged for one in counted),
        misbehaved=sum(one.misbehaved for one in counted),
        dropped=sum(one.dropped for one in counted),
        feedback=sum(one.feedback for one in counted),
    )


def overall(clients: Sequence[DeviceClient]) -> Totals:
    return total(client.counters for client in clients)


def by_startup(clients: Sequence[DeviceClient]) -> dict[str, Totals]:
    startups = dict.fromkeys(client.startup for client in clients)
    return {startup: total(client.counters for client in clients if client.startup == startup) for startup in startups}


def as_json(clients: Sequence[DeviceClient]) -> str:
    """Return one line: the fields of Totals, and the same for each startup under `by_startup`."""
    startups = {startup: asdict(totals) for startup, totals in by_startup(clients).items()}
    return json.dumps({**asdict(overall(clients)), "by_startup": startups})


async def progress(clients: Sequence[DeviceClient], broker: str) -> None:
    """Show the state of the fleet until cancelled: a live table on a terminal, a line every few seconds elsewhere."""
    console = Console()
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                live.update(table(clients, broker), refresh=True)
                await asyncio.sleep(REDRAW)
    while True:
        await asyncio.sleep(PRINT_EVERY)
        sums = overall(clients)
        print(f"{sums.connected} of {sums.devices} devices connected: {sums}", flush=True)


def table(clients: Sequence[DeviceClient], broker: str) -> Table:
    """Return a table with a row for each startup, and the newest feedback below."""
    shown = Table(title=f"Simulated devices on {broker}", caption=_newest_feedback(clients), box=SIMPLE)
    shown.add_column("startup")
    for heading in COLUMNS.values():
        shown.add_column(heading, justify="right")
    for startup, totals in by_startup(clients).items():
        sums = asdict(totals)
        shown.add_row(startup, *(f"{sums[name]:,}" for name in COLUMNS))
    return shown


def _newest_feedback(clients: Sequence[DeviceClient]) -> Text | None:
    rejected = [client for client in clients if client.counters.feedback]
    if not rejected:
        return None
    latest = max(rejected, key=lambda client: client.counters.feedback_at)
    feedback = latest.counters.newest_feedback.decode(errors="replace")
    return Text(f"feedback to {latest.identifier}: {feedback}")


class Notices:
    """Notices for people, on stderr: the same notice of any devices is shown once a minute."""

    def __init__(self) -> None:
        self._shown: dict[str, float] = {}

    def show(self, sentence: str) -> None:
        now = time.monotonic()
        if now - self._shown.get(sentence, -REPEAT_AFTER) >= REPEAT_AFTER:
            self._shown[sentence] = now
            print(f"devices: {sentence}", file=sys.stderr, flush=True)
