"""Notices a changed configuration, and passes it on only when it is valid as a whole.

A change is noticed by watching the files, or at once by SIGHUP. An invalid configuration changes nothing: `problem`
says why, until a valid one follows.

Invariants:
- Whatever fails here, the data plane goes on with the configuration that it has, and so does the watch: what cannot be
  watched, since the system grants no more watches or descriptors or the directory was replaced, is looked at instead.
- What could not be read is read again, also where no file changes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from watchfiles import awatch

from gateway.api.auth import Tokens
from gateway.config import Config, Loader
from gateway.errors import ConfigError
from gateway.logs import get_logger

SETTLE_MS = 200  # editors write a file in several steps
LOOK_EVERY_MS = 5000
"""Milliseconds between looks at the files while they are watched."""
POLL_EVERY = 2.0
"""Seconds between looks while they cannot be watched."""
WATCH_AGAIN_AFTER = 30
"""Looks after which it is tried again to watch them."""
RETRY_AFTER = 30.0
"""Seconds after which a configuration that was not used is read again."""

log = get_logger(__name__)


class Reloader:
    """`use` is called with each new configuration, in the event loop."""

    def __init__(self, loader: Loader, use: Callable[[Config, Tokens], None]) -> None:
        self._loader = loader
        self._use = use
        self._one_at_a_time = asyncio.Lock()
        self._read_at = 0.0
        self._is_watched = True
        self.problem = ""

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                await self._watch()
            except Exception as error:  # of any kind: watchfiles has its own
                self._say(is_watched=False, problem=str(error))
            for _ in range(WATCH_AGAIN_AFTER):
                await asyncio.sleep(POLL_EVERY)
                await self._look()

    async def now(self) -> None:
        """Read the configuration and use it, or report what is wrong with it."""
        async with self._one_at_a_time:
            self._read_at = time.monotonic()
            try:
                config, tokens = await asyncio.to_thread(self._read)
                self._use(config, tokens)
            except ConfigError as error:
                self._fail(str(error))
            except Exception as error:  # of any kind: no change of a file may end the data plane
                self._fail(f"it cannot be read: {error!r}")
            else:
                self.problem = ""

    async def _watch(self) -> None:
        looks = awatch(
            self._loader.directory, debounce=SETTLE_MS, step=50, rust_timeout=LOOK_EVERY_MS, yield_on_timeout=True
        )
        async for _ in looks:
            self._say(is_watched=True)
            await self._look()

    async def _look(self) -> None:
        """Read the configuration if a file has changed, or if it was not used the last time."""
        try:
            has_changed = await asyncio.to_thread(self._loader.has_changed)
        except Exception:  # of any kind: the next look may succeed
            return
        if has_changed or (self.problem and time.monotonic() - self._read_at > RETRY_AFTER):
            await self.now()

    def _fail(self, problem: str) -> None:
        text = f"the configuration on disk is not used: {problem}"
        if text != self.problem:
            log.warning("configuration not reloaded", problem=problem, next="the previous one stays in use")
        self.problem = text

    def _say(self, *, is_watched: bool, problem: str = "") -> None:
        """Log once that the files can no longer be watched, or can be again."""
        if is_watched == self._is_watched:
            return
        self._is_watched = is_watched
        if is_watched:
            log.info("configuration watched again")
        else:
            advice = "looking at the files every few seconds; raise fs.inotify.max_user_instances or max_user_watches"
            log.warning("configuration not watched", problem=problem, next=advice)

    def _read(self) -> tuple[Config, Tokens]:
        config = self._loader.load()
        return config, Tokens.of(config)
