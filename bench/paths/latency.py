"""`latency` and `feed`: the time of a message to the store, and to a listener, at shares of the sustained rate."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from bench import formatting, rig
from bench.children import Helper
from bench.gateway_process import OPERATOR_TOKEN
from bench.options import Options, StoreKind
from bench.prober import RATE
from bench.report import Report, Row, progress
from bench.rig import Run, Site
from bench.stats import median

SHARES = (0.5, 0.8)
WITHIN_MS = {"latency": 1000.0, "feed": 50.0}

Watched = Callable[[Options, StoreKind, dict[str, Any]], Awaitable[tuple[float, dict[str, Any]]]]
"""Runs a load, and returns the rate reached and what the watcher saw."""


async def latency(options: Options) -> Report:
    """Measure publish to stored, by probes beside the load."""
    return await _at_shares("latency", options, _probed)


async def feed(options: Options) -> Report:
    """Measure publish to a listener of one startup, over Server-Sent Events."""
    return await _at_shares("feed", options, _listened)


async def _at_shares(path: str, options: Options, watched: Watched) -> Report:
    rates: list[float] = []
    seen: dict[float, list[dict[str, Any]]] = {share: [] for share in SHARES}
    with progress(f"{path}, {options.store}", options.rounds * (1 + len(SHARES))) as advance:
        for _ in range(options.rounds):
            advance("the sustained rate")
            reached, _ = await watched(options, options.store, options.phase() | {"watch_seconds": 0})
            rates.append(reached)
            for share in SHARES:
                advance(f"{share * reached:,.0f} msg/s")
                asked = {"rate": share * reached, "seconds": options.seconds, "watch_seconds": options.seconds}
                seen[share].append((await watched(options, options.store, asked))[1])
    return _report(path, options, median(rates), seen)


def _report(path: str, options: Options, sustained: float, seen: dict[float, list[dict[str, Any]]]) -> Report:
    rows = [Row(f"{options.store}: sustained rate", formatting.per_second(sustained, "msg"))]
    shares: dict[str, dict[str, float]] = {}
    for share, several in seen.items():
        figures = {name: median(one[name] for one in several) for name in several[0]}
        shares[formatting.percent(share)] = figures
        within = WITHIN_MS[path] if share == min(SHARES) else None
        rows += _rows(formatting.percent(share), figures, within)
    missed = sum(one.get("lost", 0) + one.get("missed", 0) for several in seen.values() for one in several)
    head = {"path": path, "store": options.store, "sustained_rate": round(sustained), "missed": missed}
    rows.append(Row("messages missed", f"{missed:,}", "0", missed == 0))
    measurements = [{"share": share, **one} for share, several in seen.items() for one in several]
    return Report({**head, "at": shares}, rows, measurements, missed == 0)


def _rows(share: str, figures: dict[str, float], within: float | None) -> list[Row]:
    p99 = figures["p99_ms"]
    wanted, good = (f"< {formatting.millis(within)}", p99 < within) if within else ("", None)
    return [
        Row(f"p50 at {share}", formatting.millis(figures["p50_ms"])),
        Row(f"p99 at {share}", formatting.millis(p99), wanted, good),
        Row(f"p99.9 at {share}", formatting.millis(figures["p999_ms"])),
    ]


async def _probed(options: Options, kind: StoreKind, asked: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """Run a load with probes in the store."""
    async with rig.site(options, kind) as site, Helper("load", options.load(site.broker.port)) as load:
        assert site.store is not None
        warm = await rig.phase(site, load, site.broker, options.warm_up(), 0)
        look = site.store.looked_at(options.shape.slug(0))
        spec = {"port": site.broker.port, "shape": options.shape.as_json(), "look": look}
        async with Helper("prober", spec) as prober:
            await prober.ask({"seconds": 1})
            before = warm.messages + RATE
            question = {"seconds": asked["watch_seconds"]}
            watching = asyncio.create_task(prober.ask(question))
            run = await rig.phase(site, load, site.broker, asked, before)
            return run.rate, await watching | _late(run)


async def _listened(options: Options, kind: StoreKind, asked: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """Run a load with a listener."""
    async with rig.site(options, kind) as site, Helper("load", options.load(site.broker.port)) as load:
        warm = await rig.phase(site, load, site.broker, options.warm_up(), 0)
        async with Helper("listener", _listener(site)) as listener:
            run = await rig.phase(site, load, site.broker, asked, warm.messages)
            if not asked.get("rate"):
                return run.rate, {}
            return run.rate, await listener.ask(run.load) | _late(run)


def _late(run: Run) -> dict[str, float]:
    """Return the share of messages sent more than 10 ms late; in the closed loop none is late."""
    return {"load_late_share": run.load.get("late_share", 0.0)}


def _listener(site: Site) -> dict[str, Any]:
    return {"url": site.gateway.url, "token": OPERATOR_TOKEN, "shape": site.options.shape.as_json()}
