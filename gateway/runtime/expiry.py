"""Deletes readings older than the retention of their startup, every hour; none waits for another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from gateway.config import Config, Startup
from gateway.errors import StoreError
from gateway.logs import get_logger
from gateway.stores.contract import Store
from gateway.timestamps import NS

EVERY = 3600.0

log = get_logger(__name__)


async def expire_hourly(config: Callable[[], Config], store: Store) -> None:
    """Expire the readings of all startups of the present configuration, until cancelled."""
    under_way: dict[str, asyncio.Task[None]] = {}
    async with asyncio.TaskGroup() as tasks:
        while True:
            under_way = {slug: task for slug, task in under_way.items() if not task.done()}
            for startup in config().startups:
                if startup.slug not in under_way:
                    expiring = _expire(startup, store)
                    under_way[startup.slug] = tasks.create_task(expiring, name=f"expire-{startup.slug}")
            await asyncio.sleep(EVERY)


async def _expire(startup: Startup, store: Store) -> None:
    try:
        await store.expire(startup.slug, time.time_ns() - int(startup.retention * NS))
    except StoreError as error:
        log.warning("old readings not deleted", startup=startup.slug, problem=str(error))
