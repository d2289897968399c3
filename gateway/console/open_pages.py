"""Open pages: each belongs to a sign-in and ends with it, and their number is bounded.

What a page shows stays on the server until the browser has taken it, so that a browser that does not read is let go.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal

from nicegui import Client, background_tasks, core

from gateway.api.auth import Principal
from gateway.console.sign_ins import SignIn

MAX_EACH = 24
"""Pages of one startup, or of the operators: a further one closes the oldest, those without a browser first."""
MAX_IN_ALL = 200
"""Pages of all: about 0.4 MB each."""
MAX_SOCKETS = 4
"""Sockets of one page: a browser that reconnects has two for a moment."""
MAX_UNREAD = 200
"""Packets that wait for a browser: some seconds of a page with many charts."""
LEAVE_WITHIN = 3.0
"""Seconds in which a browser may leave a page that has ended."""

Why = Literal["ended", "out", "many", "slow"]


class OpenPage:
    """A page that a browser has open, or is about to open."""

    def __init__(self, client: Client, sign_in: SignIn, forget: Callable[[OpenPage], None]) -> None:
        self.client = client
        self.sign_in = sign_in
        self.is_open = True
        self._forget = forget
        self._closing: list[Callable[[], object]] = []
        sign_in.ending.add(self.end)
        client.on_delete(self._finish)

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call back once, when the page closes."""
        self._closing.append(callback)

    def end(self, why: Why) -> None:
        """Take everything off the page at once, also what is not sent yet, and lead the browser to the sign-in."""
        if not self.is_open:
            return
        self._finish()
        if why == "slow" or not self.client.has_socket_connection:
            background_tasks.create(self._drop(), name="console-drop")
            return
        self.client.outbox.messages.clear()
        self.client.outbox.message_history.clear()
        self.client.content.clear()
        self.client.open(f"/?problem={why}")
        background_tasks.create(self._leave(), name="console-leave")

    @property
    def sockets(self) -> list[tuple[str, str]]:
        """Sockets of this page: by the names of socket.io and of engine.io."""
        with suppress(KeyError):
            return list(core.sio.manager.get_participants("/", self.client.id))
        return []

    @property
    def is_behind(self) -> bool:
        """Return whether the browser takes less than it is sent."""
        sockets = core.sio.eio.sockets
        return any(sockets[name].queue.qsize() > MAX_UNREAD for _, name in self.sockets if name in sockets)

    def _finish(self) -> None:
        if self.is_open:
            self.is_open = False
            self.sign_in.ending.discard(self.end)
            self._forget(self)
            for callback in self._closing:
                callback()

    async def _leave(self) -> None:
        await asyncio.sleep(LEAVE_WITHIN)
        await self._drop()

    async def _drop(self) -> None:
        sockets = self.sockets
        if self.client.id in Client.instances:
            self.client.delete()
        for _, name in sockets:
            await core.sio.eio.disconnect(name)


class OpenPages:
    """All open pages, the oldest first."""

    def __init__(self) -> None:
        self._open: dict[str, OpenPage] = {}

    def __iter__(self) -> Iterator[OpenPage]:
        return iter(list(self._open.values()))

    def get(self, client_id: str) -> OpenPage | None:
        return self._open.get(client_id)

    def open(self, client: Client, sign_in: SignIn) -> OpenPage:
        """Note a page, and make room for it where its owner, or all together, have too many."""
        each = Counter(page.sign_in.principal for page in self)
        if each[sign_in.principal] >= MAX_EACH:
            self._close_oldest(sign_in.principal)
        elif len(self._open) >= MAX_IN_ALL:
            self._close_oldest(each.most_common(1)[0][0])
        page = OpenPage(client, sign_in, self._forget)
        self._open[client.id] = page
        return page

    def _close_oldest(self, owner: Principal) -> None:
        theirs = [page for page in self if page.sign_in.principal == owner]
        min(theirs, key=lambda page: page.client.has_socket_connection).end("many")

    def _forget(self, page: OpenPage) -> None:
        self._open.pop(page.client.id, None)
