"""Startups come and go: joining, leaving, cohorts. Each is a change of files, then plan and apply."""

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
"""What holds data: removed only where that is asked for."""


def find(config: Config, slug: str) -> Startup:
    """A configured startup.

    Raises:
        ProvisionError: there is none of that slug; the text lists those that there are.
    """
    startup = config.by_slug.get(slug)
    if startup is None:
        raise ProvisionError(f"there is no startup {slug!r}; there are: {', '.join(config.by_slug) or 'none'}")
    return startup


def of_cohort(config: Config, cohort: str) -> list[Startup]:
    """The startups of a cohort.

    Raises:
        ProvisionError: it has none.
    """
    found = [startup for startup in config.startups if startup.cohort == cohort]
    if not found:
        known = ", ".join(sorted({startup.cohort for startup in config.startups if startup.cohort})) or "none"
        raise ProvisionError(f"no startup is of cohort {cohort!r}; there are: {known}")
    return found


def end_now(directory: Path, startups: Iterable[Startup]) -> None:
    """Set the end dates to yesterday, where they lie later: from now on their access is over."""
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    for startup in startups:
        if startup.until is None or startup.until > yesterday:
            startup_files.set_until(directory / "startups" / f"{startup.slug}.yaml", yesterday)


def extend(directory: Path, startups: Iterable[Startup], until: date) -> None:
    """Set the end dates."""
    for startup in startups:
        startup_files.set_until(directory / "startups" / f"{startup.slug}.yaml", until)


async def revocation(
    before: Config, after: Config, slugs: Sequence[str], servers: Sequence[Server], *, delete_data: bool
) -> Plan:
    """The steps that take away all that these startups have, left over from before or not; what holds data stays
    unless `delete_data`, and then goes only where the startups' data is now: elsewhere it was not exported.

    Nothing else is removed, whatever else is left over on the servers.
    """
    wanted = [await asyncio.to_thread(server.wanted, before) for server in servers]
    known = {resource.key for resources in wanted for resource in resources if resource.startup in slugs}
    if delete_data:
        after = after.model_copy(update={"ended": tuple(one for one in after.ended if one.slug not in slugs)})
    plan = await run.plan(after, servers, prune=True)

    def goes(step: Step) -> bool:
        if step.action != "remove":
            return True
        if step.resource.kind in DATA_KINDS:
            return delete_data and step.resource.key in known
        return step.resource.startup in slugs or step.resource.key in known

    removed = tuple(step for step in plan.steps if goes(step))
    kept = tuple(step.resource for step in plan.steps if not goes(step))
    stays = tuple(resource for resource in plan.stays if resource.startup in slugs)
    return Plan(removed, plan.conflicts, kept, stays)
