"""Grafana's HTTP API through grafana-client's async client, with errors that say what to do.

Each organisation has a client that sends `X-Grafana-Org-Id` with every request, so that nothing depends on which
organisation the admin's account has selected. Only endpoints under `/api` are used, which Grafana 13 calls deprecated
and keeps; data sources by UID, since numeric ids are disabled there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection
from typing import Any
from urllib.parse import urlsplit

from grafana_client.api import AsyncGrafanaApi
from grafana_client.client import GrafanaException
from niquests.exceptions import JSONDecodeError, RequestException

from gateway.errors import AdminRejected, ProvisionError, ServerUnreachable

TIMEOUT_S = 30.0
NOT_FOUND = 404
TAKEN = (409, 412)
"""Somebody else has the name or UID, or saved first. Versions differ in which status they answer."""


class Grafana:
    """A Grafana server, as its server admin sees it."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self.user = user
        self._password = password
        self._clients: dict[int | None, Any] = {}

    def within(self, org_id: int | None = None) -> Any:
        """Return grafana-client (which has no types) for an organisation, or for none."""
        if org_id not in self._clients:
            self._clients[org_id] = self._client(org_id)
        return self._clients[org_id]

    async def ask(self, answer: Awaitable[Any], *, none_for: Collection[int] = ()) -> Any:
        """Return Grafana's answer as JSON values; None for the HTTP statuses in `none_for`, and for no content.

        Raises:
            ServerUnreachable: nobody answers.
            AdminRejected: Grafana rejects the admin's credentials.
            ProvisionError: any other error.
        """
        try:
            result = await answer
        except GrafanaException as error:
            if error.status_code in none_for:
                return None
            raise self._rejected(error) from error
        except JSONDecodeError as error:
            raise self._not_grafana() from error
        except RequestException as error:
            raise self._unreachable(error) from error
        if isinstance(result, str):
            raise self._not_grafana()
        return result

    async def close(self) -> None:
        """Close all connections."""
        clients = list(self._clients.values())
        self._clients.clear()
        for client in clients:
            await client.client.s.close()

    def _client(self, org_id: int | None) -> Any:
        place = urlsplit(self.url)
        host = f"[{place.hostname}]" if ":" in (place.hostname or "") else place.hostname
        prefix = place.path.strip("/")
        return AsyncGrafanaApi(
            (self.user, self._password),
            host=host,
            port=place.port,
            protocol=place.scheme,
            url_path_prefix=f"{prefix}/" if prefix else "",
            timeout=TIMEOUT_S,
            organization_id=org_id,
        )

    def _rejected(self, error: GrafanaException) -> ProvisionError:
        body = error.response
        message = body.get("message", "") if isinstance(body, dict) else ""
        if error.status_code == 0:
            return self._unreachable(error)
        if error.status_code in (401, 403):
            return AdminRejected(
                f"Grafana at {self.url} rejected {self.user!r} ({error.status_code} {message}): check the Grafana "
                "admin's user and password; it must be a server admin"
            )
        return ProvisionError(f"Grafana at {self.url} answered {error.status_code}: {message or error.message}")

    def _unreachable(self, error: Exception) -> ServerUnreachable:
        return ServerUnreachable(
            f"no Grafana answers at {self.url}: is it running, and is the address correct from here? ({error})"
        )

    def _not_grafana(self) -> ProvisionError:
        return ProvisionError(f"the server at {self.url} is not Grafana: check the address, port and path")
