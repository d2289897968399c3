"""The command line's client, against a small HTTP server that answers what the test wants."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gateway.cli.http_client import Client
from gateway.config import Config, Settings
from gateway.errors import CommandRejected, GatewayUnreachable
from tests.builders import startup

Answer = tuple[int, bytes]
Request = tuple[str, str | None, bytes]


@contextmanager
def answering(status: int, body: bytes) -> Iterator[tuple[str, list[Request]]]:
    """A server that gives this answer to all; its URL, and the requests that it got."""
    requests: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            requests.append((self.path, self.headers.get("Authorization"), sent))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", requests
        finally:
            server.shutdown()
            thread.join()


def client(url: str | None = None, listen: str = "127.0.0.1:8080", token: str | None = "word") -> Client:
    settings = Settings.model_validate({"http": {"listen": listen}})
    return Client(Config(settings=settings, startups=(startup(),)), token, url)


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:80", "http://127.0.0.1:80"),
        ("[::1]:80", "http://[::1]:80"),
        ("gate.lan:80", "http://gate.lan:80"),
    ],
)
def test_url(listen: str, url: str) -> None:
    """The gateway is found where the configuration says that it listens; a given URL goes first."""
    assert client(listen=listen).url == url
    assert client("https://elsewhere/", listen).url == "https://elsewhere"


@pytest.mark.parametrize("status", [200, 503])
def test_ready(status: int) -> None:
    """What /readyz says is read, whether the gateway is ready or not."""
    with answering(status, b'{"ready": true}') as (url, requests):
        assert client(url, token=None).ready() == {"ready": True}
    assert requests == [("/readyz", None, b"")]


def test_post() -> None:
    """A command is posted as JSON with the token."""
    with answering(200, b'{"results": []}') as (url, requests):
        assert client(url).post("/v1/x", {"ids": [1]}) == {"results": []}
    ((path, token, body),) = requests
    assert (path, token, json.loads(body)) == ("/v1/x", "Bearer word", {"ids": [1]})


@pytest.mark.parametrize(
    ("body", "says"),
    [(b'{"detail": "wrong token"}', "wrong token"), (b"<html>", "403 Forbidden"), (b"[]", "403 Forbidden")],
)
def test_rejected(body: bytes, says: str) -> None:
    """A rejected request is reported in the gateway's own words, or by its status."""
    with answering(403, body) as (url, _):
        with pytest.raises(CommandRejected, match=says) as rejected:
            client(url).post("/v1/x", {})
        assert rejected.value.status == 403
        with pytest.raises(CommandRejected, match=says):
            list(client(url).live("acme"))


def test_live() -> None:
    """A live feed is read event by event, until the gateway closes it."""
    stream = b': ping\n\nevent: reading\nid: 1\ndata: {"a": 1}\n\nevent: missed\ndata: {}\n\n'
    with answering(200, stream) as (url, requests):
        assert list(client(url).live("acme", "air", "th-1")) == [("reading", {"a": 1}), ("missed", {})]
    assert requests[0][0] == "/v1/startups/acme/live?measurement=air&device=th-1"


def test_unreachable_gateway_is_reported() -> None:
    """An unreachable gateway is reported with its address and how to start it; `ready` is None."""
    with answering(200, b"") as (url, _):
        pass
    assert client(url).ready() is None
    for call in (lambda: client(url).post("/v1/x", {}), lambda: list(client(url).live("acme"))):
        with pytest.raises(GatewayUnreachable, match=f"no gateway answers at {url}.*`gateway run`"):
            call()
