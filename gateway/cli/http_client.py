"""Commands' client of the HTTP API. It uses urllib, since nothing here must be fast."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode

from gateway.config import Config
from gateway.errors import CommandRejected, GatewayUnreachable

TIMEOUT = 10.0


class Client:
    """A client of the gateway that the configuration describes, or of the one at `url`."""

    def __init__(self, config: Config, token: str | None = None, url: str | None = None) -> None:
        http = config.settings.http
        host = "127.0.0.1" if http.host in ("0.0.0.0", "::") else http.host  # noqa: S104  # compared, not bound
        scheme = "https" if http.cert_file else "http"
        self.url = (url or f"{scheme}://{f'[{host}]' if ':' in host else host}:{http.port}").rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def ready(self) -> dict[str, Any] | None:
        """Return the answer of /readyz; None if there is none.

        Raises:
            CommandRejected: the token is wrong.
        """
        try:
            with self._open("/readyz") as answer:
                return dict(json.load(answer))
        except GatewayUnreachable:
            return None
        except HTTPError as error:
            if error.code != 503:
                raise _rejected(error) from None
            return dict(json.load(error))

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send JSON, and return the JSON of the answer.

        Raises:
            GatewayUnreachable: nobody answers.
            CommandRejected: the gateway rejected the request.
        """
        try:
            with self._open(path, json.dumps(body).encode()) as answer:
                return dict(json.load(answer))
        except HTTPError as error:
            raise _rejected(error) from None

    def live(
        self, startup: str, measurement: str | None = None, device: str | None = None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield a startup's live events, as `events` does."""
        wanted = {name: value for name, value in (("measurement", measurement), ("device", device)) if value}
        return self.events(f"/v1/startups/{quote(startup, safe='')}/live?{urlencode(wanted)}")

    def events(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield Server-Sent Events as (event, data), until the gateway closes the connection.

        Raises:
            GatewayUnreachable: nobody answers, or the connection is lost.
            CommandRejected: the gateway rejected the request.
        """
        try:
            with self._open(path, timeout=60.0) as answer:
                kind = ""
                for raw in answer:
                    name, _, value = raw.decode().rstrip("\n").partition(": ")
                    if name == "event":
                        kind = value
                    elif name == "data":
                        yield kind, json.loads(value)
        except HTTPError as error:
            raise _rejected(error) from None
        except (OSError, HTTPException) as error:
            raise GatewayUnreachable(f"lost the connection to the gateway at {self.url}: {error}") from None

    def _open(self, path: str, body: bytes | None = None, timeout: float = TIMEOUT) -> Any:
        headers = self._headers | ({"Content-Type": "application/json"} if body else {})
        request = urllib.request.Request(self.url + path, body, headers)  # noqa: S310  # an operator's own URL
        try:
            return urllib.request.urlopen(request, timeout=timeout)  # noqa: S310
        except HTTPError:
            raise
        except URLError as error:
            raise GatewayUnreachable(
                f"no gateway answers at {self.url}: {error.reason}; is it running (`gateway run`), and "
                "is http.listen correct?"
            ) from None


def _rejected(error: HTTPError) -> CommandRejected:
    hint = "; give a token with --token, or in GATEWAY_TOKEN" if error.code == 401 else ""
    return CommandRejected(_detail(error) + hint, error.code)


def _detail(error: HTTPError) -> str:
    try:
        return str(json.load(error)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}"
