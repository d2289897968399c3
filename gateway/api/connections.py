"""Connections over HTTP: how many there may be, from one address and in all, and which one makes way for another.

A connection is idle while it has sent no complete request, or is kept alive between two. Whoever comes last displaces
the connection that has been idle for longest, so that idle ones, however many, keep nobody out. A connection with a
request in progress is never displaced; those without a token may not take the places of all.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Sequence

MAX_TOTAL = 2048
MAX_TOTAL_WITH_TLS = 1024  # asyncio keeps 256 KiB for each
SHARE_OF_DESCRIPTORS = 4
"""HTTP may use one descriptor out of this number; the others are for broker, store and state."""
SHARE_OF_ADDRESS = 4
"""One address may have one connection out of this number."""


def most(descriptors: int, *, tls: bool) -> int:
    """Return how many connections there may be in a process that may open this number of descriptors."""
    return max(1, min(MAX_TOTAL_WITH_TLS if tls else MAX_TOTAL, descriptors // SHARE_OF_DESCRIPTORS))


def subscriber(address: str) -> str:
    """Return what counts as one address: for IPv6 the network of 64 bits, which belongs to one subscriber."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)).network_address)


class Group:
    """Connections of one address, or all of them: at most `limit`, and at most three quarters of those anonymous."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.members = 0
        self.anonymous = 0
        self.idle: dict[Connection, None] = {}

    @property
    def is_full(self) -> bool:
        return self.members >= self.limit

    @property
    def may_serve_anonymous(self) -> bool:
        return self.anonymous < max(1, self.limit * 3 // 4)


class Connection:
    """One connection; it starts idle. `end` cuts it off."""

    __slots__ = ("_groups", "_state", "end")

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups = groups
        self._state = "idle"
        self.end: Callable[[], None] = lambda: None
        for group in groups:
            group.members += 1
            group.idle[self] = None

    def rest(self) -> None:
        """Note that no request is in progress."""
        self._become("idle")

    def vouch(self) -> None:
        """Note a request of somebody known."""
        self._become("known")

    def serve_anonymous(self) -> bool:
        """Note a request of somebody unknown; return whether there is room for it."""
        if self._state == "idle":
            if not all(group.may_serve_anonymous for group in self._groups):
                return False
            self._become("anonymous")
        return True

    def close(self) -> None:
        """Give the place back. A second time does nothing."""
        self._become("closed")
        for group in self._groups:
            group.members -= 1
        self._groups = ()

    def _become(self, state: str) -> None:
        for group in self._groups:
            group.idle.pop(self, None)
            group.anonymous += (state == "anonymous") - (self._state == "anonymous")
            if state == "idle":
                group.idle[self] = None
        self._state = state


class Connections:
    """All connections. Those of `proxies` are limited in all only, since a proxy brings everybody's."""

    def __init__(self, limit: int, proxies: Collection[ipaddress.IPv4Network | ipaddress.IPv6Network] = ()) -> None:
        self._all = Group(limit)
        self._proxies = tuple(proxies)
        self._by_address: dict[str, Group] = {}

    def __len__(self) -> int:
        return self._all.members

    def open(self, address: str) -> Connection | None:
        """Return the place of a new connection; None if there is none left."""
        key = subscriber(address)
        groups = [self._all]
        if not self._is_proxy(address):
            groups.append(self._by_address.get(key) or Group(max(1, self._all.limit // SHARE_OF_ADDRESS)))
        for group in reversed(groups):
            if group.is_full and not _displace_one(group):
                return None
        if len(groups) > 1:
            self._forget_empty(keep=key)
            self._by_address[key] = groups[1]
        return Connection(groups)

    def _is_proxy(self, address: str) -> bool:
        if not self._proxies:
            return False
        parsed = ipaddress.ip_address(address)
        return any(parsed in network for network in self._proxies)

    def _forget_empty(self, keep: str) -> None:
        """Forget addresses without connections, once there are more addresses than there may be connections."""
        if len(self._by_address) > self._all.limit and keep not in self._by_address:
            self._by_address = {key: group for key, group in self._by_address.items() if group.members}


def _displace_one(group: Group) -> bool:
    """Cut off the connection that has been idle for longest, if any."""
    oldest = next(iter(group.idle), None)
    if oldest is None:
        return False
    oldest.close()
    oldest.end()
    return True
