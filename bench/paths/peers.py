"""`peers`: the gateway and alternatives to it, one after the other, publish to stored in the same influxd."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import Any

from rich.console import Console

from bench import formatting, rig, stores
from bench.children import BenchError, Helper
from bench.options import Options
from bench.peers.start import DATABASE, PEERS, Peer, subscribed
from bench.report import Report, Row, progress
from bench.rig import Run
from bench.shape import Shape
from bench.stats import median, ratio

MESSAGES = 200_000
GATEWAY = "gateway"
AT_MOST = {"plain script": 1 / 8, "telegraf": 1 / 2}


async def run(options: Options) -> Report:
    """Measure the gateway, a peer, the gateway, the next peer, …: each ratio is of two runs side by side."""
    if options.shape != Shape(startups=options.shape.startups, devices=options.shape.devices, payload=60):
        raise BenchError("peers: they are written for 2 fields, 1 reading and 60 bytes; omit those options")
    asked = {"messages": options.messages or MESSAGES}
    installed = [peer for peer in PEERS if peer.found()]
    skipped = [peer.name for peer in PEERS if peer not in installed]
    for name in skipped:
        Console(stderr=True).print(f"skipped: {name} is not installed; bench/README.md says where it is searched for")
    pairs: dict[str, list[tuple[Run, Run]]] = {peer.name: [] for peer in installed}
    with progress("peers", 2 * options.rounds * len(installed)) as advance:
        for _ in range(options.rounds):
            for peer in installed:
                advance(GATEWAY)
                gateway = await rig.stored(options, "influxdb", asked)
                advance(peer.name)
                pairs[peer.name].append((gateway, await _run_peer(options, peer, asked)))
    return _report(pairs, skipped)


async def _run_peer(options: Options, kind: type[Peer], asked: dict[str, Any]) -> Run:
    program = kind.found()
    assert program is not None
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(rig.mosquitto())
        directory = await stack.enter_async_context(rig.scratch())
        store = await stack.enter_async_context(stores.debians(directory, options.shape, (DATABASE,)))
        peer = kind(program, directory, broker, store)
        await stack.enter_async_context(peer.running())
        await subscribed(broker)
        load = await stack.enter_async_context(Helper("load", options.load(broker.port)))
        warm = await rig.phase(peer, load, broker, options.warm_up(), 0)
        run = await rig.phase(peer, load, broker, asked, warm.messages)
        run.more.update(lost=warm.messages + run.messages - peer.stored)
        return run


def _report(pairs: dict[str, list[tuple[Run, Run]]], skipped: list[str]) -> Report:
    gateways = [gateway for several in pairs.values() for gateway, _ in several]
    whole = all(run.more["whole"] for run in gateways)
    ours = median(run.cpu_us(GATEWAY) for run in gateways)
    figures: dict[str, Any] = {
        "path": "peers",
        "messages": gateways[-1].messages,
        GATEWAY: {
            "cpu_us_per_message": round(ours, 3),
            "whole": whole,
            "rate": round(median(r.rate for r in gateways)),
        },
        "skipped": skipped,
    }
    rows = [
        Row("gateway: CPU of a message", formatting.micros(ours)),
        Row("gateway: all stored", formatting.yes(whole), "yes", whole),
    ]
    for name, several in pairs.items():
        figures[name] = _figures(name, several)
        rows += _rows(name, figures[name])
    rows += [Row(name, "not installed") for name in skipped]
    measurements = [
        {"subject": subject, **asdict(run)}
        for name, several in pairs.items()
        for pair in several
        for subject, run in zip((GATEWAY, name), pair, strict=True)
    ]
    return Report(figures, rows, measurements, whole)


def _figures(name: str, several: list[tuple[Run, Run]]) -> dict[str, Any]:
    ours, theirs = [gateway.cpu_us(GATEWAY) for gateway, _ in several], [peer.cpu_us(name) for _, peer in several]
    return {
        "cpu_us_per_message": round(median(theirs), 3),
        "cpu_ratio": round(ratio(ours, theirs), 4),
        "rate": round(median(peer.rate for _, peer in several)),
        "lost": [peer.more["lost"] for _, peer in several],
        "resident_mib": median(peer.resident[name] for _, peer in several),
    }


def _rows(name: str, figures: dict[str, Any]) -> list[Row]:
    against, most = figures["cpu_ratio"], AT_MOST.get(name)
    wanted, good = (f"at most {formatting.times(most)}", against <= most) if most else ("", None)
    lost = ", ".join(f"{lost:,}" for lost in figures["lost"])
    return [
        Row(f"{name}: CPU of a message", formatting.micros(figures["cpu_us_per_message"])),
        Row(f"gateway's CPU against {name}", formatting.times(against), wanted, good),
        Row(f"{name}: lost, each round", lost),
    ]
