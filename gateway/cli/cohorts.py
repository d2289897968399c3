"""`gateway cohort`: all startups of one programme at once."""

from __future__ import annotations

import time
from datetime import date
from typing import Annotated

import typer

from gateway.cli.offboarding import DeleteData, ExportTo, export_before, forget, revoke
from gateway.cli.onboarding import Handouts, add_startup_file, last_day, provisioned
from gateway.cli.options import DEFAULT_DIR, ConfigDir, Json
from gateway.cli.provision import report
from gateway.config import load
from gateway.errors import GatewayError
from gateway.provision import cohorts, startup_files
from gateway.provision.startup_files import NewStartup
from gateway.stores.export import expect_room, is_exported

app = typer.Typer(no_args_is_help=True, help="All startups of one programme at once.")

Ended = Annotated[bool, typer.Option("--ended", help="Only startups whose end date has passed, for a daily timer.")]


@app.command("open")
def open_cohort(
    cohort: str,
    until: Annotated[str, typer.Option(metavar="DATE", help="Last day of access.")],
    members: Annotated[list[str] | None, typer.Argument(metavar="[SLUG=NAME]...", help="Startups to add.")] = None,
    config: ConfigDir = DEFAULT_DIR,
    handouts: Handouts = None,
    json: Json = False,
) -> None:
    """Add startups to a cohort, and set the end date of all its startups."""
    last = last_day(until)
    tokens: dict[str, str] = {}
    try:
        for member in members or []:
            new = NewStartup.parse(member, cohort, last)
            tokens[new.slug] = add_startup_file(config, new)
    except GatewayError:  # all of them, or none
        for slug in tokens:
            startup_files.remove(config, slug)
        raise
    cohorts.extend(config, cohorts.of_cohort(load(config), cohort), last or date.max)
    provisioned(config, tokens, handouts, json=json)


@app.command("close")
def close_cohort(
    cohort: str,
    to: ExportTo,
    config: ConfigDir = DEFAULT_DIR,
    delete_data: DeleteData = False,
    ended: Ended = False,
    json: Json = False,
) -> None:
    """Export the data of a cohort's startups and revoke their access. Their files stay, with the end date in them."""
    loaded = load(config)
    now_ns = time.time_ns()
    found = [s for s in cohorts.of_cohort(loaded, cohort) if not ended or s.has_ended(now_ns)]
    slugs = [startup.slug for startup in found]
    left = [s for s in found if not (s.has_ended(now_ns) and is_exported(s, to / s.slug))]
    for startup in left:
        expect_room(to / startup.slug)
    cohorts.end_now(config, found)  # before the export, so that nothing arrives after it
    for startup in left:
        export_before(loaded, startup, to / startup.slug, delete_data=delete_data)
    after = load(config).active(time.time_ns())
    plan, applied = revoke(config, loaded, after, slugs, delete_data=delete_data, quiet=json)
    if delete_data and not applied.problem:
        for slug in slugs:
            forget(loaded, slug)
    report(plan, applied, json=json)
    raise typer.Exit(1 if applied.problem else 0)
