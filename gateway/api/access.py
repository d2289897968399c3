"""Access: decided once for every route, by who asks (`gateway.api.edge` knows the tokens).

The dependencies are coroutines, since FastAPI runs each plain function in a thread.
"""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from gateway.api.auth import Principal
from gateway.api.services import Services
from gateway.config import Startup
from gateway.errors import RequestRejected

_bearer = HTTPBearer(auto_error=False, description="the startup's API token, or an operator's")


async def services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _anybody(
    request: Request, _given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal | None:
    """Return who asks, as the edge has found out; `_given` is for the schema."""
    principal: Principal | None = getattr(request.state, "principal", None)
    return principal


async def _principal(principal: Annotated[Principal | None, Depends(_anybody)]) -> Principal:
    if principal is None:
        raise RequestRejected(401, "expected a token of this test bed", {"WWW-Authenticate": "Bearer"})
    return principal


def allowed(services: Services, principal: Principal, startup: str) -> Startup:
    """Return a startup that a principal may see.

    Raises:
        RequestRejected: 403 if it may not, 404 if there is no such startup.
    """
    if not principal.may_see(startup):
        raise RequestRejected(403, f"this token is {principal.startup}'s; it may not see {startup!r}")
    found = services.config.by_slug.get(startup)
    if found is None:
        known = ", ".join(services.config.by_slug)
        raise RequestRejected(404, f"there is no startup {startup!r}; there are: {known}")
    if found.has_ended(time.time_ns()) and not principal.is_operator:
        raise RequestRejected(403, f"the programme of {startup} ended on {found.until}; ask the operators for its data")
    return found


async def _startup(request: Request, startup: str, principal: Annotated[Principal, Depends(_principal)]) -> Startup:
    return allowed(request.app.state.services, principal, startup)


def served_here(services: Services, startup: Startup) -> Startup:
    """Return a startup whose data this host has.

    Raises:
        RequestRejected: 421 if another host serves it; `url` in the problem document is that host's.
    """
    config = services.config
    if config.serves(startup):
        return startup
    host = config.hosts_of(startup)[0]
    url = config.settings.hosts[host].url.rstrip("/")
    raise RequestRejected(
        421, f"{startup.slug} is served by the host {host}, not by {config.host}: ask {url}", members={"url": url}
    )


async def _served(request: Request, startup: Annotated[Startup, Depends(_startup)]) -> Startup:
    return served_here(request.app.state.services, startup)


async def _kept(
    request: Request,
    startup: Annotated[Startup, Depends(_startup)],
    principal: Annotated[Principal, Depends(_principal)],
) -> Startup:
    return startup if principal.is_operator else served_here(request.app.state.services, startup)


async def _operator(principal: Annotated[Principal, Depends(_principal)]) -> Principal:
    if not principal.is_operator:
        raise RequestRejected(403, f"this token is {principal.startup}'s; an operator's is required")
    return principal


CurrentServices = Annotated[Services, Depends(services_of)]
PermittedStartup = Annotated[Startup, Depends(_startup)]
ServedStartup = Annotated[Startup, Depends(_served)]
"""A startup that this host serves: for routes whose data only one host has."""
KeptStartup = Annotated[Startup, Depends(_kept)]
"""The same and, for operators, any startup: for what one leaves behind when it moves to another host."""
Anybody = Annotated[Principal | None, Depends(_anybody)]
Operator = Annotated[Principal, Depends(_operator)]
