"""Output of the provisioning commands: plans like a diff, credentials once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from gateway.config import Startup
from gateway.provision.handout import Endpoints
from gateway.provision.plan import Credential, Plan, Step
from gateway.provision.run import Applied
from gateway.visible import visible

COLOURS = {"create": "green", "update": "yellow", "remove": "red"}


def plan(one: Plan) -> RenderableType:
    """Format steps with their changes, conflicts, and what is left over."""
    parts: list[RenderableType] = []
    for step in one.steps:
        parts.append(Text(visible(step), COLOURS[step.action]))
        parts += [Text(f"    {visible(change)}", "dim") for change in step.changes]
    parts += [Text(f"! {visible(conflict)}", "red") for conflict in one.conflicts]
    parts += _stays(one)
    if one.leftover:
        names = ", ".join(f"{resource.server} {resource.kind} {resource.name}" for resource in one.leftover)
        parts.append(Text(f"left over, removed only with --prune: {visible(names)}", "dim"))
    parts.append(Text(_summary(one)))
    return Group(*parts)


def applied(wanted: Plan, done: Applied) -> RenderableType:
    """Format what was done, what failed, and the credentials that were made."""
    parts: list[RenderableType] = [Text(visible(step), COLOURS[step.action]) for step in done.done]
    if done.credentials:
        parts.append(credentials(done.credentials))
    parts += [Text(f"! {visible(conflict)}", "red") for conflict in wanted.conflicts]
    parts += _stays(wanted)
    if done.failed is not None:
        parts.append(Text.assemble(("failed: ", "red"), f"{visible(done.failed)}\n    {visible(done.problem)}"))
        parts.append(Text(f"{len(done.done)} of {len(wanted.steps)} steps done; run it again to continue"))
    else:
        parts.append(Text(f"{len(done.done)} steps done" if done.done else "nothing to do"))
    return Group(*parts)


def credentials(made: Sequence[Credential]) -> RenderableType:
    """Format credentials, which are shown once: they are stored nowhere in plain text."""
    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        title="shown once: hand them over, they are stored nowhere",
        title_style="yellow",
        title_justify="left",
    )
    longest = max((len(one.secret) for one in made), default=0)
    for name in ("startup", "for", "name", "secret"):  # folded on a narrow terminal: nothing of them may be lost
        table.add_column(name, overflow="fold", min_width=longest if name == "secret" else None)
    for one in made:
        table.add_row(one.startup, one.whose, Text(visible(one.name)), Text(one.secret, "bold"))
    return table


def joined(startup: Startup, endpoints: Endpoints) -> RenderableType:
    """Format the addresses and topics of a startup: all that it needs, besides its credentials."""
    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        show_header=False,
        title=f"what {startup.slug} needs, besides its accounts",
        title_style="",
        title_justify="left",
    )
    table.add_column()
    table.add_column(overflow="fold")
    topics = "\n".join(rule.template.text for rule in startup.topics.values())
    for what, where in (
        ("MQTT broker", endpoints.mqtt),
        ("publish on", topics),
        ("rejections", f"feedback/{startup.slug}/{{device}}"),
        ("live readings", f"feeds/{startup.slug}/{{device}}/{{measurement}}"),
        ("page and HTTP API", endpoints.http),
        ("Grafana", endpoints.grafana or "not set up"),
    ):
        table.add_row(what, Text(where))
    return table


def startups(several: Sequence[Startup]) -> RenderableType:
    """Format startups as a table."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("slug", "name", "cohort", "until", "devices", "measurements"):
        table.add_column(name, justify="right" if name == "devices" else "left")
    for one in several:
        table.add_row(
            one.slug,
            Text(visible(one.name)),
            Text(visible(one.cohort)),
            str(one.until or ""),
            str(len(one.devices)),
            Text(visible(", ".join(one.topics))),
        )
    return table


def plan_json(one: Plan) -> dict[str, Any]:
    return {
        "steps": [step.as_json() for step in one.steps],
        "conflicts": [str(conflict) for conflict in one.conflicts],
        "leftover": [{"server": r.server, "kind": r.kind, "name": r.name} for r in one.leftover],
        "stays": _stays_json(one),
    }


def applied_json(wanted: Plan, done: Applied) -> dict[str, Any]:
    return {
        "done": [step.as_json() for step in done.done],
        "failed": done.failed.as_json() | {"problem": done.problem} if done.failed else None,
        "conflicts": [str(conflict) for conflict in wanted.conflicts],
        "stays": _stays_json(wanted),
        "credentials": [one._asdict() for one in done.credentials],
    }


@contextmanager
def progress(steps: int, *, quiet: bool) -> Iterator[Callable[[Step], None]]:
    """Show a progress bar on standard error, if that is a terminal and there are steps."""
    out = Console(stderr=True)
    if quiet or not out.is_terminal or steps == 0:
        yield lambda _step: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task("", total=steps)
        yield lambda step: bar.update(task, advance=1, description=escape(visible(step)))


def _stays(one: Plan) -> list[Text]:
    """List what must be removed by hand, and why."""
    return [
        Text(visible(f"stays: {r.server} {r.kind} {r.name}, which holds {', '.join(r.spec['holds'])}"), "dim")
        for r in one.stays
    ]


def _stays_json(one: Plan) -> list[dict[str, Any]]:
    return [{"server": r.server, "kind": r.kind, "name": r.name, "holds": list(r.spec["holds"])} for r in one.stays]


def _summary(one: Plan) -> str:
    if not one.steps:
        return "no steps: the servers match the configuration" if one.is_done else "no steps"
    counts = {action: sum(step.action == action for step in one.steps) for action in COLOURS}
    words = {"create": "to create", "update": "to change", "remove": "to remove"}
    return ", ".join(f"{count} {words[action]}" for action, count in counts.items() if count)
