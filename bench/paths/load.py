"""`load`: the generator with a sink that only acknowledges: how fast it could send."""

from __future__ import annotations

from bench import formatting
from bench.children import Helper
from bench.options import Options
from bench.report import Report, Row, progress
from bench.stats import median, rate
from tests.servers import free_port

SENT_A_SECOND = 5_000_000
"""An estimate of the messages in each of `--seconds`."""


async def run(options: Options) -> Report:
    """Measure messages per second into the sink, and the generator's CPU per message."""
    rates, cpu = [], []
    with progress("load", options.rounds) as advance:
        for _ in range(options.rounds):
            advance("into a sink")
            messages, seconds, load_cpu = await _into_sink(options)
            rates.append(messages / seconds)
            cpu.append(load_cpu * 1e6 / messages)
    figures = {
        "path": "load",
        "qos": options.qos,
        "rate": round(median(rates)),
        "cpu_us_per_message": round(median(cpu), 3),
    }
    rows = [
        Row("sent into a sink", formatting.per_second(median(rates), "msg")),
        Row("CPU of a message", formatting.micros(median(cpu)), "under 1 µs", median(cpu) < 1),
    ]
    return Report(figures, rows)


async def _into_sink(options: Options) -> tuple[int, float, float]:
    """Return messages, seconds, and CPU-seconds of the generator."""
    messages = options.messages or int(options.seconds * SENT_A_SECOND)
    spec = options.but(connections=1).load(free_port())
    async with Helper("sink", spec), Helper("load", spec) as load:
        sent = await load.ask({"messages": messages})
        return messages, 1 / rate(1, sent["start_ns"], sent["acknowledged_ns"]), sent["cpu_seconds"]
