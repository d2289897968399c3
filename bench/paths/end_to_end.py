"""`end-to-end`: publish to stored, at a share of the ceiling, for as long as requested."""

from __future__ import annotations

from dataclasses import asdict

from bench import formatting, rig
from bench.options import Options
from bench.paths.ingest import cpu_rows, cpu_us
from bench.report import Report, Row, progress
from bench.rig import Run
from bench.stats import median, ratio

CEILING_SECONDS = 5.0
KEEPS_UP_WITHIN = 1.0
"""Seconds after the last message was due. A gateway that is further behind does not sustain the rate."""


async def run(options: Options) -> Report:
    """Measure the ceiling, then the gateway at a share of it, in turns."""
    ceilings, runs = [], []
    short = options.but(seconds=min(options.seconds, CEILING_SECONDS), messages=None)
    with progress(f"end-to-end, {options.store}", 2 * options.rounds) as advance:
        for _ in range(options.rounds):
            advance("bare subscriber")
            ceilings.append(await rig.ceiling(short))
            wanted = options.share * ceilings[-1].rate
            advance(f"{wanted:,.0f} msg/s for {options.seconds:g} s")
            runs.append(await rig.stored(options, options.store, {"rate": wanted, "seconds": options.seconds}))
    return _report(options, ceilings, runs)


def _report(options: Options, ceilings: list[Run], runs: list[Run]) -> Report:
    figures = {
        "path": "end-to-end",
        "store": options.store,
        "qos": options.qos,
        "seconds": options.seconds,
        "messages": runs[-1].messages,
        "ceiling_rate": round(median(run.rate for run in ceilings)),
        "asked_rate": round(median(run.load["rate"] for run in runs)),
        "rate": round(median(run.rate for run in runs)),
        "ratio": round(ratio([run.rate for run in runs], [run.rate for run in ceilings]), 4),
        "sustained": all(map(sustained, runs)),
        "behind_seconds": round(median(map(behind, runs)), 2),
        "greatest_backlog": max(map(greatest_backlog, runs)),
        "balanced": all(run.more["balanced"] for run in runs),
        "stored_equals_accepted": all(run.more["whole"] for run in runs),
        "load_late_share": max(run.load["late_share"] for run in runs),
        "cpu_us_per_message": cpu_us(runs),
        "resident_mib": runs[-1].resident,
        "backlog": runs[-1].more["backlog"],
    }
    rows = [
        Row(f"{options.store}: publish to stored", formatting.per_second(median(run.rate for run in runs), "msg")),
        _share_row(options, runs, ceilings),
        Row("greatest backlog", f"{figures['greatest_backlog']:,} msg"),
        Row("ledger balanced, all stored", formatting.yes(all(run.more["whole"] for run in runs)), "yes", whole(runs)),
        *cpu_rows(runs),
    ]
    named = [{"subject": "bare", **asdict(run)} for run in ceilings]
    return Report(figures, rows, named + [{"subject": "gateway", **asdict(run)} for run in runs], whole(runs))


def _share_row(options: Options, runs: list[Run], ceilings: list[Run]) -> Row:
    reached = ratio([run.rate for run in runs], [run.rate for run in ceilings])
    keeps_up = all(map(sustained, runs))
    shown = f"{formatting.percent(reached)}, {'sustained' if keeps_up else 'NOT sustained'}"
    return Row(f"of the ceiling, for {options.seconds:g} s", shown, formatting.percent(options.share), keeps_up)


def whole(runs: list[Run]) -> bool:
    """Return whether every ledger balances, and everything that was sent is in the store."""
    return all(run.more["whole"] for run in runs)


def behind(run: Run) -> float:
    """Return the seconds from when the last message was due to when all were stored."""
    return run.messages / run.rate - run.messages / float(run.load["rate"])


def sustained(run: Run) -> bool:
    """Return whether the gateway kept up with the rate to the end."""
    return behind(run) <= KEEPS_UP_WITHIN


def greatest_backlog(run: Run) -> int:
    """Return the most messages at a sample that were due and not yet stored."""
    lags = (min(at * run.load["rate"], run.messages) - went for at, _, went in run.more["backlog"])
    return max(map(round, lags), default=0)
