"""`gateway startups|devices|cohort`: add, change and remove startups and devices."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.api.auth import token_hash
from gateway.cli.hosts import free_host
from gateway.cli.options import DEFAULT_DIR, ConfigDir, Json, one_error, print_json
from gateway.cli.provision import apply_steps, on_servers, read, report
from gateway.cli.rendering import console
from gateway.config import Config, Startup, load
from gateway.errors import GatewayError, ProvisionError, StoreUnreadable
from gateway.provision import cohorts, rendering, run, startup_files
from gateway.provision.handout import Endpoints, handout
from gateway.provision.plan import Credential, Plan, Server
from gateway.provision.run import Applied
from gateway.provision.settings import check_names, load_provision
from gateway.provision.startup_files import NewStartup
from gateway.state import private_files
from gateway.stores.export import Exported, expect_room, export, is_exported

startups_app = typer.Typer(no_args_is_help=True, help="Startups: list, add, remove, export.")
devices_app = typer.Typer(no_args_is_help=True, help="Devices: add, block, renew a password.")
cohort_app = typer.Typer(no_args_is_help=True, help="All startups of one programme at once.")

Until = Annotated[str | None, typer.Option(metavar="DATE", help="Last day of access, such as 2026-12-18.")]
Handouts = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write a hand-out for each startup here; it contains secrets."),
]
Team = Annotated[list[str] | None, typer.Option(metavar="EMAIL", help="Who may use Grafana; repeat for several.")]
Ended = Annotated[bool, typer.Option("--ended", help="Only startups whose end date has passed, for a daily timer.")]
ExportTo = Annotated[Path, typer.Option("--export-to", metavar="DIR", help="Directory to export the data to.")]
DeleteData = Annotated[bool, typer.Option("--delete-data", help="Also delete the data, once it is exported.")]


@startups_app.command("list")
def list_startups(config: ConfigDir = DEFAULT_DIR, json: Json = False) -> None:
    """List the startups."""
    startups = load(config).startups
    if json:
        print_json(
            [
                {
                    "slug": s.slug,
                    "name": s.name,
                    "cohort": s.cohort,
                    "until": s.until and str(s.until),
                    "devices": list(s.devices),
                    "measurements": list(s.topics),
                }
                for s in startups
            ]
        )
    else:
        console().print(rendering.startups(startups))


@startups_app.command("add")
def add_startup(
    slug: str,
    name: Annotated[str, typer.Option(help="The startup's name, for people.")],
    config: ConfigDir = DEFAULT_DIR,
    cohort: Annotated[str, typer.Option(help="The cohort that it belongs to.")] = "",
    until: Until = None,
    store: Annotated[
        str | None, typer.Option(metavar="NAME", help="Store for its readings: a name under stores in gateway.yaml.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(metavar="NAME", help="Host that serves it; default: the one with the smallest quotas.")
    ] = None,
    team: Team = None,
    device: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A device, with an MQTT account; repeat for several.")
    ] = None,
    handouts: Handouts = None,
    json: Json = False,
) -> None:
    """Add a startup: write its file, provision the servers, and print what the startup needs."""
    new = NewStartup(slug, name, cohort, _date(until), store, host, team or (), device or ())
    _provisioned(config, {slug: _add(config, new)}, handouts, json=json)


@startups_app.command("token")
def new_token(slug: str, config: ConfigDir = DEFAULT_DIR) -> None:
    """Give a startup a new API token; the old one is rejected as soon as the gateway has reloaded."""
    cohorts.find(load(config), slug)
    token = secrets.token_urlsafe(24)
    path = config / "startups" / f"{slug}.yaml"
    startup_files.edit(path, lambda document: document.__setitem__("token_sha256", token_hash(token)))
    console().print(rendering.credentials([Credential(slug, "HTTP API", slug, token)]))


@startups_app.command("export")
def export_startup(slug: str, to: ExportTo, config: ConfigDir = DEFAULT_DIR, json: Json = False) -> None:
    """Write all data of a startup as CSV and line protocol."""
    loaded = load(config)
    done = _export(loaded, cohorts.find(loaded, slug), to)
    if json:
        print_json({"directory": str(done.directory), "files": [f.name for f in done.files], "readings": done.readings})
    else:
        _print_export(done)


@startups_app.command("remove")
def remove_startup(
    slug: str, to: ExportTo, config: ConfigDir = DEFAULT_DIR, delete_data: DeleteData = False, json: Json = False
) -> None:
    """Export a startup's data, revoke all its access, and remove its file."""
    loaded = load(config)
    startup = cohorts.find(loaded, slug)
    _export_before(loaded, startup, to, delete_data=delete_data)
    others = tuple(other for other in loaded.startups if other.slug != slug)
    without = Config(settings=loaded.settings, startups=others).active(time.time_ns())
    plan, applied = _revoke(config, loaded, without, [slug], delete_data=delete_data, quiet=json)
    if not applied.problem:
        (config / "startups" / f"{slug}.yaml").unlink()
        if delete_data:
            _forget(loaded, slug)
    report(plan, applied, json=json)
    raise typer.Exit(1 if applied.problem else 0)


@devices_app.command("add")
def add_device(
    startup: str,
    devices: Annotated[list[str], typer.Argument(metavar="DEVICE...")],
    config: ConfigDir = DEFAULT_DIR,
    json: Json = False,
) -> None:
    """Add devices to a startup, each with an MQTT account; their passwords are shown once."""
    cohorts.find(load(config), startup)
    for device in devices:
        startup_files.add_device(config / "startups" / f"{startup}.yaml", device)
    _provisioned(config, {}, None, json=json)


@devices_app.command("block")
def block_device(startup: str, device: str, config: ConfigDir = DEFAULT_DIR, json: Json = False) -> None:
    """Hold one device back: its connection is closed, its account rejected, its messages too. The others go on."""
    cohorts.find(load(config), startup)
    startup_files.block_device(config / "startups" / f"{startup}.yaml", device)
    _carried_to_the_broker(config, json=json)


@devices_app.command("unblock")
def unblock_device(startup: str, device: str, config: ConfigDir = DEFAULT_DIR, json: Json = False) -> None:
    """Let a blocked device in again, with its old password."""
    cohorts.find(load(config), startup)
    startup_files.unblock_device(config / "startups" / f"{startup}.yaml", device)
    _carried_to_the_broker(config, json=json)


@devices_app.command("password")
def new_password(startup: str, device: str, config: ConfigDir = DEFAULT_DIR) -> None:
    """Give a device's MQTT account a new password; the old one is rejected at once."""
    loaded, settings = read(config)
    if device not in cohorts.find(loaded, startup).devices:
        raise ProvisionError(
            f"{startup} has no device {device!r}: add it with `gateway devices add {startup} {device}`"
        )

    made = on_servers(loaded, settings, lambda servers: run.new_password(servers, startup, device))
    console().print(rendering.credentials([made]))


@cohort_app.command("open")
def open_cohort(
    cohort: str,
    until: Annotated[str, typer.Option(metavar="DATE", help="Last day of access.")],
    members: Annotated[list[str] | None, typer.Argument(metavar="[SLUG=NAME]...", help="Startups to add.")] = None,
    config: ConfigDir = DEFAULT_DIR,
    handouts: Handouts = None,
    json: Json = False,
) -> None:
    """Add startups to a cohort, and set the end date of all its startups."""
    last = _date(until)
    tokens: dict[str, str] = {}
    try:
        for member in members or []:
            new = NewStartup.parse(member, cohort, last)
            tokens[new.slug] = _add(config, new)
    except GatewayError:  # all of them, or none
        for slug in tokens:
            (config / "startups" / f"{slug}.yaml").unlink()
        raise
    cohorts.extend(config, cohorts.of_cohort(load(config), cohort), last or date.max)
    _provisioned(config, tokens, handouts, json=json)


@cohort_app.command("close")
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
        _export_before(loaded, startup, to / startup.slug, delete_data=delete_data)
    after = load(config).active(time.time_ns())
    plan, applied = _revoke(config, loaded, after, slugs, delete_data=delete_data, quiet=json)
    if delete_data and not applied.problem:
        for slug in slugs:
            _forget(loaded, slug)
    report(plan, applied, json=json)
    raise typer.Exit(1 if applied.problem else 0)


def _add(directory: Path, new: NewStartup) -> str:
    """Write a startup's file, unless it would be invalid. Return the API token, to be shown once."""
    token = secrets.token_urlsafe(24)
    path = startup_files.add(directory, new.on(free_host(directory)), token_hash(token))
    try:
        check_names(load(directory), load_provision(directory))
    except GatewayError:
        path.unlink()
        raise
    console(to_stderr=True).print(f"wrote {path}")
    return token


def _provisioned(directory: Path, tokens: dict[str, str], handouts: Path | None, *, json: bool) -> None:
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


def _carried_to_the_broker(directory: Path, *, json: bool) -> None:
    """Plan and apply at the broker alone: a block must not wait for another server."""
    loaded, settings = read(directory)
    only_mqtt = settings.model_copy(update={"influxdb": None, "stores": {}, "grafana": None})

    async def work(servers: list[Server]) -> tuple[Plan, Applied]:
        plan = await run.plan(loaded, servers)
        return plan, await apply_steps(plan, servers, quiet=json)

    plan, applied = on_servers(loaded, only_mqtt, work)
    report(plan, applied, json=json)
    if settings.mosquitto is None and not json:
        console(to_stderr=True).print(
            "provision.yaml names no Mosquitto: the gateway rejects the device's messages, and the broker still takes "
            "them. Close the device's account there too"
        )
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
        path.unlink(missing_ok=True)  # an old one may be readable by others
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(page)
    except OSError as error:
        raise ProvisionError(
            f"{path}: the hand-out cannot be written; {error.strerror}. All its contents are shown above"
        ) from error
    console(to_stderr=True).print(f"wrote {path}")


def _revoke(
    directory: Path, before: Config, after: Config, slugs: list[str], *, delete_data: bool, quiet: bool
) -> tuple[Plan, Applied]:
    settings = load_provision(directory)

    async def work(servers: list[Server]) -> tuple[Plan, Applied]:
        plan = await cohorts.revocation(before, after, slugs, servers, delete_data=delete_data)
        return plan, await apply_steps(plan, servers, quiet=quiet)

    return on_servers(before, settings, work)


def _forget(config: Config, slug: str) -> None:
    from gateway.stores.build import forget_embedded

    forget_embedded(config, slug)


def _export(config: Config, startup: Startup, to: Path) -> Exported:
    from gateway.stores.build import make_store

    async def work() -> Exported:
        store = make_store(config)
        await store.open()
        try:
            return await export(startup, store, to)
        finally:
            await store.close()

    with one_error():
        return asyncio.run(work())


def _export_before(config: Config, startup: Startup, to: Path, *, delete_data: bool) -> None:
    """Export a startup's data. What cannot be read is reported and kept; it is never deleted unread."""
    try:
        _print_export(_export(config, startup, to))
    except StoreUnreadable as error:
        if delete_data:
            raise StoreUnreadable(
                f"{startup.slug} is not exported, so nothing is deleted or revoked: {error}. Give it access again for "
                "the export (`gateway cohort open`, or a later `until` and `gateway provision apply`), or omit "
                "--delete-data"
            ) from error
        console(to_stderr=True).print(f"{startup.slug} is not exported, and its data stays: {error}")


def _print_export(done: Exported) -> None:
    console(to_stderr=True).print(
        f"exported {done.readings:,} readings into {len(done.files)} files in {done.directory}"
    )


def _date(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        last = date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"expected a date such as 2026-12-18; got {text!r}", param_hint="--until") from None
    if last < datetime.now(UTC).date():
        raise typer.BadParameter(f"expected today or a later day; got {text}", param_hint="--until")
    return last
