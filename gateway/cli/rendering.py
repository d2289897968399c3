"""Output of commands for people: tables and sentences, in colours that have a meaning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from gateway.errors import ConfigInvalid
from gateway.ingest.outcome import Evaluation
from gateway.model import MAX_POSITIONS, UNROUTED, Counts
from gateway.mqtt.grants import Comparison
from gateway.state.dead_letters import DeadLetter, Totals
from gateway.timestamps import to_rfc3339
from gateway.visible import visible

COLUMNS = ("received", "accepted", "rejected", "stored", "journaled", "refused")
OK, BAD = "[green]✓[/]", "[red]✗[/]"


class SafeConsole(Console):
    """Console that only shows text, wherever it is from: nothing in it takes effect, only the layout breaks lines."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text, keep="\n"), segment.style)


def console(*, to_stderr: bool = False) -> Console:
    return SafeConsole(stderr=to_stderr, highlight=False)


LISTED = 120
"""Characters of a name or topic in a list: MQTT allows 65,535 bytes."""


def error(text: str) -> RenderableType:
    """Format an error message."""
    return Text.assemble(("error: ", "red"), text)


def warning(text: str) -> RenderableType:
    return Text.assemble(("warning: ", "yellow"), text)


def granted(comparison: Comparison) -> RenderableType:
    """Format what the broker should grant and does not, and advice."""
    lines: list[RenderableType] = [
        Text.assemble(("advice: ", "yellow") if one.is_advice else ("broker: ", "red"), visible(one))
        for one in comparison.shortfalls
    ]
    if not lines:
        lines.append(Text.from_markup(f"{OK} broker: it grants what the configuration needs"))
    return Group(*lines)


def problems(error: ConfigInvalid) -> RenderableType:
    """Format every problem of a configuration: where it is, what was expected, what was found."""
    lines = []
    for problem in error.problems:
        place = f"{problem.file}:{problem.line}" if problem.line else problem.file
        where = f" {_plain(problem.where)}" if problem.where else ""
        lines.append(
            f"[bold]{_plain(place)}[/]{where}\n    expected [green]{_plain(problem.expected)}[/]\n"
            f"    got      [red]{_plain(problem.got)}[/]"
        )
    count = len(error.problems)
    return Text.from_markup("\n".join([*lines, f"[red]{count} problem{'' if count == 1 else 's'}[/]"]))


def _plain(text: object) -> str:
    """Return foreign text for a place within markup, on one line."""
    return escape(visible(text))


def ledger_table(balance: Mapping[str, Counts], title: str = "") -> Table:
    """Return the ledger as a table: a row for each startup, and one for all."""
    table = Table(  # without padding: millions of readings must fit into 80 columns
        box=SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False, show_edge=False, padding=(0, 0)
    )
    table.add_column("startup")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    table.add_column("balanced", justify="center")
    for slug, counts in balance.items():
        table.add_row(*_ledger_row("(no startup)" if slug == UNROUTED else slug, counts))
    table.add_section()
    table.add_row(*_ledger_row("all", Counts.total(balance)), style="bold")
    return table


def _ledger_row(name: str, counts: Counts) -> list[str]:
    cells = []
    for column in COLUMNS:
        value = getattr(counts, column)
        warns = value and column in ("rejected", "refused")
        cells.append(f"[yellow]{value:,}[/]" if warns else f"{value:,}")
    return [name, *cells, OK if counts.balanced else BAD]


def health(report: Mapping[str, Any] | None, url: str) -> RenderableType:
    """Format the answer of /readyz, or say that there was none."""
    if report is None:
        return Text.from_markup(f"{BAD} not running: no answer at {escape(url)} (start it with `gateway run`)")
    if "parts" not in report:
        mark = f"{OK} ready" if report["ready"] else f"{BAD} not ready"
        return Text.from_markup(f"{mark} (the operators' token shows more: --token or GATEWAY_TOKEN)")
    lines = []
    for name, part in report["parts"].items():
        problem = part.get("problem")
        lines.append(f"{BAD} {name}: {_plain(problem)}" if problem else f"{OK} {name}")
    return Text.from_markup("\n".join(lines))


def totals(kept: Mapping[str, Totals]) -> RenderableType:
    """Format how many dead letters are kept."""
    parts = [
        f"{'(no startup)' if slug == UNROUTED else slug} {one.kept:,}"
        + (f" ({one.dropped:,} older ones dropped)" if one.dropped else "")
        for slug, one in kept.items()
        if one.kept or one.dropped
    ]
    return Text("dead letters: " + (", ".join(parts) if parts else "none"))


def evaluation(result: Evaluation) -> RenderableType:
    """Format the result of `gateway try`: the readings with their lines, and every reason."""
    parts: list[RenderableType] = []
    for reading, line in zip(result.readings, result.lines, strict=True):
        table = Table.grid(padding=(0, 2))
        table.add_row("startup", Text(reading.startup))
        table.add_row("device", Text(visible(reading.device)))
        table.add_row("measurement", Text(visible(reading.measurement)))
        table.add_row("time", to_rfc3339(reading.time_ns))
        for kind, values in (("tag", reading.tags), ("field", reading.fields)):
            for name, value in values.items():
                table.add_row(kind, Text(visible(f"{name} = {value!r}")))
        parts += [Text.from_markup(f"{OK} accepted"), table, Text(visible(line), style="dim"), ""]
    if result.rejection is not None:
        parts.append(Text.from_markup(f"{BAD} rejected"))
        parts += [Text(f"  {reason.code.value:14} {visible(reason)}") for reason in result.rejection.reasons]
    return Group(*parts)


def dead_letters(found: Sequence[DeadLetter]) -> RenderableType:
    """Format dead letters as a table, each with its first reason."""
    if not found:
        return Text("no dead letters")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("id", "arrived", "startup", "device", "topic", "why"):
        table.add_column(name, overflow="fold", justify="right" if name == "id" else "left")
    for one in found:
        kept = one.rejection
        more = f" (+{len(kept.reasons) - 1} more)" if len(kept.reasons) > 1 else ""
        table.add_row(
            str(one.id),
            to_rfc3339(kept.arrived_ns)[:19] + "Z",
            _slug(kept.startup),
            Text(_short(visible(kept.device))),
            Text(_short(visible(kept.topic or "(a point that the store refused)"))),
            Text(f"{visible(kept.reasons[0])}{more}"),
        )
    return table


def _short(text: str) -> str:
    return text if len(text) <= LISTED else f"{text[: LISTED - 1]}…"


def dead_letter(one: DeadLetter) -> RenderableType:
    """Format a dead letter with every reason and its payload."""
    kept = one.rejection
    table = Table.grid(padding=(0, 2))
    for name, value in (
        ("id", str(one.id)),
        ("arrived", to_rfc3339(kept.arrived_ns)),
        ("startup", _slug(kept.startup)),
        ("device", kept.device),
        ("topic", kept.topic),
        ("records", ", ".join(map(str, kept.records[:MAX_POSITIONS])) or "all"),
        ("bytes", f"{kept.size:,}" + ("" if one.is_whole else f" ({one.kept:,} of them were kept)")),
    ):
        table.add_row(name, Text(visible(value)))
    reasons = [Text(f"  {reason.code.value:14} {visible(reason)}") for reason in kept.reasons]
    return Group(
        table,
        Text("reasons", style="bold"),
        *reasons,
        Text("payload", style="bold"),
        Text(visible(kept.payload.decode("utf-8", "backslashreplace"))),
    )


def replayed(results: Iterable[Mapping[str, Any]]) -> RenderableType:
    """Format the results of a replay."""
    lines = []
    for result in results:
        mark = OK if result["result"] == "accepted" else BAD
        lines.append(f"{mark} {result['id']}: {result['result']}")
        lines += [
            _plain(f"    {reason['where']}: expected {reason['expected']}; got {reason['got']}")
            for reason in result.get("reasons", [])
        ]
    return Text.from_markup("\n".join(lines))


def event(kind: str, data: Mapping[str, Any]) -> Text:
    """Format a line of `gateway tail`."""
    match kind:
        case "reading":
            fields = visible("  ".join(f"{name}={value}" for name, value in data["fields"].items()))
            return Text.assemble(
                (data["time"], "dim"),
                "  ",
                (visible(data["device"]), "cyan"),
                f"  {visible(data['measurement'])}  {fields}",
            )
        case "rejection":
            reasons = "; ".join(
                f"{one['where']}: expected {one['expected']}; got {one['got']}" for one in data["reasons"]
            )
            return Text.assemble(
                (data["time"], "dim"),
                "  ",
                (visible(data["device"] or data["topic"]), "cyan"),
                "  ",
                ("rejected", "red"),
                f"  {visible(reasons)}",
            )
        case _:
            count = data.get("count")
            return Text(f"… {count if count is not None else 'some'} events were missed …", style="yellow")


def _slug(startup: str) -> str:
    return "(no startup)" if startup == UNROUTED else startup


def evaluation_json(result: Evaluation) -> dict[str, Any]:
    """Return what `gateway try --json` prints."""
    rejection = result.rejection
    return {
        "accepted": rejection is None,
        "readings": [
            {
                "startup": reading.startup,
                "device": reading.device,
                "measurement": reading.measurement,
                "time": to_rfc3339(reading.time_ns),
                "tags": dict(reading.tags),
                "fields": dict(reading.fields),
                "line": line,
            }
            for reading, line in zip(result.readings, result.lines, strict=True)
        ],
        "reasons": [reason.as_json() for reason in rejection.reasons] if rejection else [],
    }
