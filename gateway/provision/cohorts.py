"""Changes of startups: adding, removing, cohorts. Each changes files, then plans and applies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from gateway.config import Config, Startup
from gateway.errors import ProvisionError
from gateway.provision import run, startup_files
from gateway.provision.plan import Plan, Server, Step

DATA_KINDS = frozenset({"bucket"})
"""Kinds of resources that hold data, which are removed only on request."""


def find(config: Config, slug: str) -> Startup:
    """Return a configured startup.

    Raises:
        ProvisionError: there is none with that slug; the message lists those that exist.
    """
    startup = config.by_slug.get(slug)
    if startup is None:
        raise ProvisionError(f"there is no startup {slug!r}; there are: {', '.join(config.by_slug) or 'none'}")
    return startup


def of_cohort(config: Config, cohort: str) -> list[Startup]:
    """Return the startups of a cohort.

    Raises:
        ProvisionError: it has none.
    """
    found = [startup for startup in config.startups if startup.cohort == cohort]
    if not found:
        known = ", ".join(sorted({startup.cohort for startup in config.startups if startup.cohort})) or "none"
        raise ProvisionError(f"cohort {cohort!r} has no startups; known: {known}")
    return found


def end_now(directory: Path, startups: Iterable[Startup]) -> None:
    """Set later end dates to yesterday, which ends the startups' access now."""
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    for startup in startups:
        if startup.until is None or startup.until > yesterday:
            startup_files.set_until(directory / "startups" / f"{startup.slug}.yaml", yesterday)


def extend(directory: Path, startups: Iterable[Startup], until: date) -> None:
    """Set the end dates of startups."""
    for startup in startups:
        startup_files.set_until(directory / "startups" / f"{startup.slug}.yaml", until)


async def revocation(
    before: Config, after: Config, slugs: Sequence[str], servers: Sequence[Server], *, delete_data: bool
) -> Plan:
    """Plan the removal of all that these startups have, including what is left over from before.

    Data stays unless `delete_data`; it is then deleted only where the startups keep it now: elsewhere it was not
    exported. Nothing else is removed, whatever else is left over on the servers.
    """
    wanted = [await asyncio.to_thread(server.wanted, before) for server in servers]
    known = {resource.key for resources in wanted for resource in resources if resource.startup in slugs}
    if delete_data:
        after = after.model_copy(update={"ended": tuple(one for one in after.ended if one.slug not in slugs)})
    plan = await run.plan(after, servers, prune=True)

    def is_removed(step: Step) -> bool:
        if step.action != "remove":
            return True
        if step.resource.kind in DATA_KINDS:
            return delete_data and step.resource.key in known
        return step.resource.startup in slugs or step.resource.key in known

    removed = tuple(step for step in plan.steps if is_removed(step))
    kept = tuple(step.resource for step in plan.steps if not is_removed(step))
    stays = tuple(resource for resource in plan.stays if resource.startup in slugs)
    return Plan(removed, plan.conflicts, kept, stays)
