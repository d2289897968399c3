"""Output of `gateway demo` for people: its addresses and tokens, and the ledger as it grows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gateway.cli.rendering import COLUMNS, ledger_table
from gateway.model import Counts

if TYPE_CHECKING:
    from gateway.cli.demo import Access, Report


def access(found: Access) -> RenderableType:
    """Format the addresses and tokens of the running demo."""
    url = found.endpoints.http
    table = Table.grid(padding=(0, 2))
    table.add_row("web page", f"[link={url}][bold]{url}[/][/]")
    table.add_row("HTTP API", f"{url}/docs")
    table.add_row("MQTT", found.endpoints.mqtt)
    table.add_row("", "")
    for slug, token in found.tokens.items():
        table.add_row(f"token of {slug}", f"[bold]{token}[/]")
    table.add_row("token of operators", f"[bold]{found.operator}[/]")
    return Group(Text.from_markup("[bold]Testbed Gateway, on embedded defaults[/]\n"), table, "")


@contextmanager
def growing_ledger(out: Console, seconds: float | None) -> Iterator[Callable[[Report, float], None]]:
    """Show the ledger as it grows: in place on a terminal, as a line every few seconds elsewhere."""
    if not out.is_terminal:
        yield _every(5.0, lambda report, passed: out.print(_ledger_line(report.total, passed), soft_wrap=True))
        return
    with Live(console=out, auto_refresh=False, transient=True) as live:
        yield lambda report, passed: live.update(
            Group(ledger_table(report.balance), _progress(passed, seconds)), refresh=True
        )


def _every(period: float, show: Callable[[Report, float], None]) -> Callable[[Report, float], None]:
    shown = -period

    def now_and_then(report: Report, passed: float) -> None:
        nonlocal shown
        if passed - shown >= period:
            shown = passed
            show(report, passed)

    return now_and_then


def _ledger_line(total: Counts, passed: float) -> str:
    return f"{passed:5.0f} s  " + "  ".join(f"{name} {getattr(total, name):,}" for name in COLUMNS)


def _progress(passed: float, seconds: float | None) -> RenderableType:
    if seconds is None:
        return Text(f"{passed:.0f} s; Ctrl-C drains and stops", style="dim")
    bar = ProgressBar(total=seconds, completed=min(passed, seconds), width=40)
    return Columns([bar, Text(f"{passed:.0f} of {seconds:.0f} s", style="dim")])
