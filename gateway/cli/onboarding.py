"""Steps of the commands that let startups and devices in: write files, provision, print, hand out."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.api.auth import token_hash
from gateway.cli.hosts import free_host
from gateway.cli.options import print_json
from gateway.cli.provision import apply_steps, on_servers, read, report
from gateway.cli.rendering import console
from gateway.config import Startup, load
from gateway.errors import GatewayError, ProvisionError
from gateway.provision import rendering, run, startup_files
from gateway.provision.handout import Endpoints, handout
from gateway.provision.plan import Credential, Plan, Server
from gateway.provision.run import Applied
from gateway.provision.settings import check_names, load_provision
from gateway.provision.startup_files import NewStartup
from gateway.state import private_files

Handouts = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write a hand-out for each startup here; it contains secrets."),
]


def add_startup_file(directory: Path, new: NewStartup) -> str:
    """Write a startup's file, unless it would be invalid. Return the API token, to be shown once."""
    token = secrets.token_urlsafe(24)
    path = startup_files.add(directory, new.on(free_host(directory)), token_hash(token))
    try:
        check_names(load(directory), load_provision(directory))
    except GatewayError:
        startup_files.remove(directory, new.slug)
        raise
    console(to_stderr=True).print(f"wrote {path}")
    return token


def provisioned(directory: Path, tokens: dict[str, str], handouts: Path | None, *, json: bool) -> None:
    """Plan and apply, then print what was made and write the hand-outs."""
    loaded, settings = read(directory)

    async def work(servers: list[Server]) -> tuple[Plan, Applied]:
        plan = await run.plan(loaded, servers)
        return plan, await apply_steps(plan, servers, quiet=json)

    made = [Credential(slug, "HTTP API", slug, token) for slug, token in tokens.items()]
    try:
        plan, applied = on_servers(loaded, settings, work)
    except GatewayError:
        if made:  # their files are written: the tokens are shown now or never
            _print_credentials(made, json=json)
        raise
    applied = Applied(applied.done, (*made, *applied.credentials), applied.failed, applied.problem)
    report(plan, applied, json=json)  # first: a secret that is not shown now is lost
    endpoints = Endpoints.of(loaded, settings)
    for slug in () if json else tokens:
        startup = loaded.by_slug[slug]
        console().print(rendering.joined(startup, endpoints.on_host(loaded, startup)))
    if handouts:
        for slug, token in tokens.items():
            startup = loaded.by_slug[slug]
            _hand_out(startup, endpoints.on_host(loaded, startup), token, applied.credentials, handouts / f"{slug}.md")
    raise typer.Exit(1 if applied.problem or plan.conflicts else 0)


def _print_credentials(made: Sequence[Credential], *, json: bool) -> None:
    if json:
        print_json({"credentials": [one._asdict() for one in made]})
    else:
        console().print(rendering.credentials(made))


def _hand_out(
    startup: Startup, endpoints: Endpoints, token: str, credentials: Sequence[Credential], path: Path
) -> None:
    own = [one for one in credentials if one.name != startup.slug or one.whose != "HTTP API"]
    page = handout(startup, own, endpoints, time.time_ns(), token)
    try:
        private_files.make_directory(path.parent)
        private_files.write(path, page)
    except OSError as error:
        raise ProvisionError(
            f"{path}: the hand-out cannot be written; {error.strerror}. All its contents are shown above"
        ) from error
    console(to_stderr=True).print(f"wrote {path}")


def last_day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        last = date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"expected a date such as 2026-12-18; got {text!r}", param_hint="--until") from None
    if last < datetime.now(UTC).date():
        raise typer.BadParameter(f"expected today or a later day; got {text}", param_hint="--until")
    return last
