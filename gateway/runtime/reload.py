"""Notices a changed configuration, and passes it on only when it is valid as a whole.

A change is noticed by watching the files, or at once by SIGHUP. An invalid configuration changes nothing: `problem`
says why, until a valid one follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from watchfiles import awatch

from gateway.api.auth import Tokens
from gateway.config import Config, Loader
from gateway.errors import ConfigError, ConfigInvalid, StateUnavailable
from gateway.logs import get_logger
from gateway.rules.declared_types import type_problems
from gateway.state.field_types import by_field
from gateway.state.reader import StateReader

SETTLE_MS = 200  # editors write a file in several steps
NOT_STORED = "readings with these fields are rejected, and kept as dead letters"

log = get_logger(__name__)


class Reloader:
    """`use` is called with each new configuration, in the event loop; it must not fail.

    A configuration that gives a field another type than the `state` has of it is not valid.
    """

    def __init__(self, loader: Loader, use: Callable[[Config, Tokens], None], state: StateReader) -> None:
        self._loader = loader
        self._state = state
        self._use = use
        self._one_at_a_time = asyncio.Lock()
        self.problem = ""

    async def run(self) -> None:
        """Watch until cancelled."""
        await self._check()
        async for changes in awatch(self._loader.directory, debounce=SETTLE_MS, step=50):
            if any(Path(path).suffix == ".yaml" for _, path in changes):
                await self.now()

    async def now(self) -> None:
        """Read the configuration and use it, or report what is wrong with it."""
        async with self._one_at_a_time:
            try:
                config, tokens = await asyncio.to_thread(self._read)
            except ConfigError as error:
                self.problem = f"the configuration on disk is not used: {error}"
                log.warning("configuration not reloaded", problem=str(error), next="the previous one stays in use")
                return
            self.problem = ""
            self._use(config, tokens)

    async def again(self) -> None:
        """Read a configuration again that was not valid: what it was compared with has changed."""
        if self.problem:
            await self.now()

    async def _check(self) -> None:
        """Report what is wrong with the configuration that is in use already."""
        try:
            await asyncio.to_thread(self._read)
        except ConfigError as error:
            self.problem = f"what the configuration on disk gives another type is rejected: {error}"
            log.warning("configuration on disk not valid", problem=str(error), next=NOT_STORED)

    def _read(self) -> tuple[Config, Tokens]:
        config = self._loader.load()
        try:
            known = by_field(self._state.types())
        except StateUnavailable as error:
            log.warning("types of fields not compared with those on disk", problem=str(error))
            known = {}
        if problems := type_problems(self._loader.directory, config, known):
            raise ConfigInvalid(problems)
        return config, Tokens.of(config)
