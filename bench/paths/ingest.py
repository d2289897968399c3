"""`ceiling` and `ingest`: what the broker can deliver, and the gateway's share of it, broker to fsynced journal."""

from __future__ import annotations

from dataclasses import asdict

from bench import formatting, rig
from bench.options import Options
from bench.report import Report, Row, progress
from bench.rig import Run
from bench.stats import median, ratio


async def ceiling(options: Options) -> Report:
    """Measure a bare subscriber, which decodes nothing and acknowledges."""
    runs = []
    with progress("ceiling", options.rounds) as advance:
        for _ in range(options.rounds):
            advance("bare subscriber")
            runs.append(await rig.ceiling(options))
    rate = median(run.rate for run in runs)
    figures = {
        "path": "ceiling",
        "qos": options.qos,
        "messages": runs[-1].messages,
        "rate": round(rate),
        "cpu_us_per_message": cpu_us(runs),
    }
    rows = [Row(f"bare subscriber, QoS {options.qos}", formatting.per_second(rate, "msg")), *cpu_rows(runs)]
    return Report(figures, rows, [asdict(run) for run in runs])


async def ingest(options: Options) -> Report:
    """Measure the ceiling and the gateway in turns."""
    ceilings, runs = [], []
    with progress("ingest", 2 * options.rounds) as advance:
        for _ in range(options.rounds):
            advance("bare subscriber")
            ceilings.append(await rig.ceiling(options))
            advance("gateway")
            runs.append(await rig.ingest(options))
    figures = {
        "path": "ingest",
        "qos": options.qos,
        "messages": runs[-1].messages,
        "ceiling_rate": round(median(run.rate for run in ceilings)),
        "rate": round(median(run.rate for run in runs)),
        "ratio": round(ratio([run.rate for run in runs], [run.rate for run in ceilings]), 4),
        "messages_per_cpu_second": round(median(run.messages / run.cpu["gateway"] for run in runs)),
        "balanced": all(run.more["balanced"] for run in runs),
        "rejected": sum(run.more["rejected"] for run in runs),
        "shape": options.shape.as_json(),
        "workers": options.workers,
        "cpu_us_per_message": cpu_us(runs),
        "resident_mib": runs[-1].resident,
        "journal_bytes_per_reading": round(runs[-1].more["journal_bytes_per_reading"], 1),
    }
    return Report(
        figures,
        [*_ingest_rows(figures), *cpu_rows(runs)],
        [{"subject": "bare", **asdict(run)} for run in ceilings]
        + [{"subject": "gateway", **asdict(run)} for run in runs],
        whole=figures["balanced"] and not figures["rejected"],
    )


def _ingest_rows(figures: dict[str, float]) -> list[Row]:
    fast = figures["messages_per_cpu_second"]
    return [
        Row("ceiling: bare subscriber", formatting.per_second(figures["ceiling_rate"], "msg")),
        Row("broker to fsynced journal", formatting.per_second(figures["rate"], "msg")),
        Row("of the ceiling", formatting.percent(figures["ratio"]), "90%", figures["ratio"] >= 0.9),
        Row("messages per CPU-second", f"{fast:,.0f}", "100,000", fast >= 100_000),
        Row("journal", f"{figures['journal_bytes_per_reading']} bytes/reading"),
        Row("ledger balanced", formatting.yes(bool(figures["balanced"])), "yes", bool(figures["balanced"])),
    ]


def cpu_us(runs: list[Run]) -> dict[str, float]:
    """Return the median CPU of each process per message, in µs."""
    return {process: round(median(run.cpu_us(process) for run in runs), 3) for process in runs[0].cpu}


def cpu_rows(runs: list[Run]) -> list[Row]:
    """Return the same as rows."""
    return [Row(f"CPU of a message: {process}", formatting.micros(value)) for process, value in cpu_us(runs).items()]
