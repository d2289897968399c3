"""`memory`: resident memory of the gateway after 1, 5 and 10 million messages, the whole way into a store."""

from __future__ import annotations

from bench import formatting, rig
from bench.children import Helper
from bench.options import Options
from bench.report import Report, Row, progress

MESSAGES = 10_000_000
SLICES = 100
SHARES = (0.1, 0.5, 1.0)
FLAT = 1.1
"""Maximum ratio of the memory at the end to that after a tenth."""

MOST_MIB = 200.0


async def run(options: Options) -> Report:
    """Send slice after slice; each waits until the last is stored, so that the broker keeps none."""
    messages = options.messages or MESSAGES
    size = max(1, messages // SLICES)
    resident: list[dict[str, float]] = []
    async with (
        rig.site(options, options.store) as site,
        Helper("load", options.load(site.broker.port)) as load,
    ):
        warm = await rig.phase(site, load, site.broker, options.warm_up(), 0)
        before = warm.messages
        with progress(f"memory, {options.store}", SLICES) as advance:
            for number in range(SLICES):
                advance(f"{number * size:,} messages")
                run = await rig.phase(site, load, site.broker, {"messages": size}, before)
                before += run.messages
                resident.append(run.resident)
        balanced = site.gateway.balanced()
    return _report(options, size, resident, balanced)


def _report(options: Options, size: int, resident: list[dict[str, float]], balanced: bool) -> Report:
    at = {round(share * SLICES): resident[round(share * SLICES) - 1]["gateway"] for share in SHARES}
    first, last = at[round(SHARES[0] * SLICES)], at[SLICES]
    figures = {
        "path": "memory",
        "store": options.store,
        "messages": SLICES * size,
        "resident_mib": {f"{number * size}": mib for number, mib in at.items()},
        "greatest_mib": max(one["gateway"] for one in resident),
        "growth": round(last / first, 3),
        "balanced": balanced,
    }
    rows = [Row(f"after {number * size:,} messages", formatting.mib(mib)) for number, mib in at.items()]
    rows[-1] = Row(rows[-1].what, rows[-1].value, f"< {formatting.mib(MOST_MIB)}", last < MOST_MIB)
    rows.append(
        Row("at the end against a tenth", formatting.times(last / first), formatting.times(FLAT), last / first <= FLAT)
    )
    return Report(figures, rows, [{"messages": (n + 1) * size, **one} for n, one in enumerate(resident)], balanced)
