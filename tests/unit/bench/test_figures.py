"""Figures of the bench: quantiles, ratios, tables, results, options. Nothing here measures time."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from bench import cli, procfs, report, stats
from bench.options import Options
from bench.paths.end_to_end import behind, greatest_backlog, sustained
from bench.report import Report, Row
from bench.rig import Run
from bench.shape import Shape


def test_a_quantile_is_a_value_that_was_measured() -> None:
    """Nearest rank: of a hundred values the 99th is p99, and p99.9 is the greatest."""
    values = list(range(1, 101))
    assert [stats.quantile(values, share) for share in (0.5, 0.99, 0.999, 1.0)] == [50, 99, 100, 100]
    assert stats.quantile([7], 0.5) == 7
    assert stats.latency_ms([3e6, 1e6, 2e6])["p50_ms"] == 2.0


def test_a_ratio_is_of_what_was_measured_side_by_side() -> None:
    """The median of the ratios of pairs, so that a slow minute of the machine does not matter."""
    assert stats.ratio([50.0, 5.0, 60.0], [100.0, 10.0, 100.0]) == 0.5


def test_a_run_that_falls_behind_is_not_sustained() -> None:
    """1,000 messages a second for ten seconds, stored after 10.5 s or after 13 s."""
    samples = [(1.0, 1000.0, 900.0), (5.0, 5000.0, 3000.0), (11.0, 10_000.0, 10_000.0)]

    def run(seconds: float) -> Run:
        return Run(10_000, 10_000 / seconds, {}, {}, {"rate": 1000.0}, {"backlog": samples})

    assert behind(run(10.5)) == pytest.approx(0.5)
    assert sustained(run(10.5))
    assert not sustained(run(13.0))
    assert greatest_backlog(run(13.0)) == 2000


def test_a_table_has_a_row_for_each_figure_in_the_colour_of_what_it_reaches() -> None:
    """Green has reached what is wanted, red has not."""
    assert [Row("a", "1", good=good).colour for good in (None, True, False)] == ["default", "green", "red"]
    one = Report({"path": "ingest"}, [Row("of the ceiling", "91%", "90%", True), Row("journal", "77 bytes")])
    shown = io.StringIO()
    Console(width=100, file=shown).print(report.table([one]))
    text = shown.getvalue()
    assert text.count("ingest") == 1
    assert all(part in text for part in ("of the ceiling", "91%", "90%", "77 bytes"))


def test_results_name_machine_versions_and_commit(tmp_path: Path) -> None:
    """Machine, versions and commit, and each measurement behind the figures."""
    one = Report({"path": "ingest", "rate": 5}, [], [{"rate": 4}, {"rate": 5}, {"rate": 6}])
    path = report.save([one], report.taken_on(), tmp_path)
    read = json.loads(path.read_text())
    assert path.name.endswith("-ingest.json")
    assert {"cpu", "cores", "memory_gib", "kernel"} <= read["machine"].keys()
    assert {"python", "sqlite", "paho-mqtt"} <= read["versions"].keys()
    assert {"date", "commit"} <= read.keys()
    assert [run["rate"] for run in read["paths"][0]["measurements"]] == [4, 5, 6]


def test_options_are_taken_from_the_command_line() -> None:
    """What is given goes before the defaults, and, where no path is named, before those of the short form."""
    asked = cli.parser().parse_args(["ingest", "--devices", "1000", "--qos", "0", "--workers", "2"])
    assert cli.options_of(asked, {}) == Options(shape=Shape(devices=1000), qos=0, workers=2)
    short = cli.parser().parse_args(["--rounds", "5"])
    assert cli.options_of(short, {"messages": 10}) == Options(seconds=2.0, rounds=5, messages=10)


def test_every_path_of_the_short_form_is_a_path() -> None:
    """And every path is in it; `ingest` measures the ceiling."""
    assert {name for name, _ in cli.SHORT_RUNS} | {"ceiling"} == cli.PATHS.keys()


def test_a_process_and_its_memory_are_found() -> None:
    """This one, by its pid; one that is gone has neither."""
    assert procfs.family(os.getpid())[0] == os.getpid()
    assert procfs.resident_mib(os.getpid()) > 1
    assert procfs.cpu_seconds(1 << 30) == procfs.resident_mib(1 << 30) == 0
