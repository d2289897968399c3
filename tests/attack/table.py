"""Table of the attacks, as a person reads it: green holds, red does not."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from tests.attack.measure import BROKER_MIB, FLOOR_MS, GATEWAY_MIB, MOST_RATIO, Line
from tests.harness.command import coloured


def table(lines: Sequence[Line]) -> Table:
    """Return a row for each attack."""
    shown = Table(title="What a startup notices of attacks by others", title_justify="left", show_lines=True)
    shown.add_column("attack", ratio=3)
    shown.add_column("received", justify="right")
    shown.add_column("p50", justify="right")
    shown.add_column("p99", justify="right")
    shown.add_column("p99 alone", justify="right", style="dim")
    shown.add_column("ratio", justify="right")
    shown.add_column("HTTP p99", justify="right", style="dim")
    shown.add_column("gateway", justify="right")
    shown.add_column("broker", justify="right")
    shown.add_column("reached", ratio=2, style="dim")
    for line in lines:
        shown.add_row(*_cells(line))
    shown.caption = (
        f"wanted: nothing lost, p99 at most {MOST_RATIO} times that of the same victim alone (or {FLOOR_MS:g} ms), the "
        f"gateway at most {GATEWAY_MIB} MiB, the broker at most {BROKER_MIB} MiB"
    )
    return shown


def _cells(line: Line) -> list[str]:
    measure, seen = line.scenario.measure, line.attacked
    kind = "" if measure == "live" else f" [dim]({measure})[/]"
    failed = "".join(f"\n[red]failed: {escape(check.what)}[/]" for check in line.checks if not check.good)
    return [
        f"[bold]{line.scenario.name}[/]{kind}\n{escape(line.scenario.about)}{failed}",
        coloured(f"{seen.messages - seen.lost} of {seen.messages}", good=not seen.lost),
        _ms(seen.ms(measure, 0.5)),
        coloured(_ms(seen.ms(measure, 0.99)), good=line.p99_good),
        _ms(line.control.ms(measure, 0.99)),
        coloured("∞" if math.isinf(line.ratio) else f"{line.ratio:.3g} ×", good=line.p99_good),
        _ms(seen.ms("query", 0.99)),
        coloured(f"{line.peak['gateway']:,.0f} MiB", good=line.peak["gateway"] <= GATEWAY_MIB),
        coloured(f"{line.peak['broker']:,.0f} MiB", good=line.peak["broker"] <= BROKER_MIB),
        escape("; ".join(line.reached)),
    ]


def _ms(value: float) -> str:
    if math.isinf(value):
        return "never"
    return f"{value / 1000:,.1f} s" if value >= 10_000 else f"{value:,.1f} ms"
