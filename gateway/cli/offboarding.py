"""Steps of the commands that end startups: export, revoke, delete."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import one_error
from gateway.cli.provision import apply_steps, on_servers
from gateway.cli.rendering import console
from gateway.config import Config, Startup
from gateway.errors import StoreUnreadable
from gateway.provision import cohorts
from gateway.provision.plan import Plan, Server
from gateway.provision.run import Applied
from gateway.provision.settings import load_provision
from gateway.stores.export import Exported, export

ExportTo = Annotated[Path, typer.Option("--export-to", metavar="DIR", help="Directory to export the data to.")]
DeleteData = Annotated[bool, typer.Option("--delete-data", help="Also delete the data, once it is exported.")]


def revoke(
    directory: Path, before: Config, after: Config, slugs: list[str], *, delete_data: bool, quiet: bool
) -> tuple[Plan, Applied]:
    settings = load_provision(directory)

    async def work(servers: list[Server]) -> tuple[Plan, Applied]:
        plan = await cohorts.revocation(before, after, slugs, servers, delete_data=delete_data)
        return plan, await apply_steps(plan, servers, quiet=quiet)

    return on_servers(before, settings, work)


def forget(config: Config, slug: str) -> None:
    from gateway.stores.build import forget_embedded

    forget_embedded(config, slug)


def export_data(config: Config, startup: Startup, to: Path) -> Exported:
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


def export_before(config: Config, startup: Startup, to: Path, *, delete_data: bool) -> None:
    """Export a startup's data. What cannot be read is reported and kept; it is never deleted unread."""
    try:
        print_export(export_data(config, startup, to))
    except StoreUnreadable as error:
        if delete_data:
            raise StoreUnreadable(
                f"{startup.slug} is not exported, so nothing is deleted or revoked: {error}. Give it access again for "
                "the export (`gateway cohort open`, or a later `until` and `gateway provision apply`), or omit "
                "--delete-data"
            ) from error
        console(to_stderr=True).print(f"{startup.slug} is not exported, and its data stays: {error}")


def print_export(done: Exported) -> None:
    console(to_stderr=True).print(
        f"exported {done.readings:,} readings into {len(done.files)} files in {done.directory}"
    )
