"""The HTTP API against its own OpenAPI description: what schemathesis makes of it, by whoever asks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st

from tests.running import OPERATOR, running, write_config
from tests.servers import WITHIN, free_port

# the lowest versions of our dependencies leave room only for schemathesis 3
schemathesis = pytest.importorskip("schemathesis", minversion="4")
ASKS = {"operator": OPERATOR, "startup": "acme-token", "nobody": None}
REPEATABLE = settings(
    max_examples=15,
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway without a broker, in a thread of its own: schemathesis asks from where it is called."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr("gateway.api.guesses.DELAY", 0.001)
    config = write_config(tmp_path_factory.mktemp("api") / "config", f"mqtt://127.0.0.1:{free_port()}")
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    served: list[str] = []
    ready = threading.Event()

    async def serve() -> None:
        async with running(config, connected=False) as gateway:
            served.append(gateway.url)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(WITHIN)
        yield served[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
        monkeypatch.undo()


@pytest.mark.filterwarnings("ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning")
@pytest.mark.parametrize("who", ASKS)
def test_every_answer_is_as_described(url: str, who: str) -> None:
    """Whatever is asked, valid or not, nothing is answered with 5xx, or with a status that is not described."""
    headers = {"Authorization": f"Bearer {ASKS[who]}"} if ASKS[who] else {}
    with httpx.Client(base_url=url, headers=headers, timeout=WITHIN) as client:
        schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
        operations: list[Any] = list(schema.get_all_operations())
        asked = [_ask(client, operation.ok()) for operation in operations]
    assert sum(asked) > 100


def _ask(client: httpx.Client, operation: Any) -> int:
    """Send a number of requests to one route; return how many were sent."""
    known: dict[str, Any] = {"path_parameters": {"startup": "acme"}} if "{startup}" in operation.path else {}
    cases = st.one_of(
        operation.as_strategy(schemathesis.GenerationMode.POSITIVE, **known),
        operation.as_strategy(schemathesis.GenerationMode.NEGATIVE, **known),
        operation.as_strategy(schemathesis.GenerationMode.POSITIVE),
    )
    described = set(operation.definition.raw["responses"])
    is_probe = operation.path == "/readyz"  # without a broker the gateway is not ready
    sent = 0

    @REPEATABLE
    @given(case=cases)
    def ask(case: Any) -> None:
        nonlocal sent
        request = case.as_transport_kwargs(base_url=str(client.base_url))
        request["content"] = request.pop("data", None)
        try:
            with client.stream(**request) as answer:  # a live feed has no end
                status = answer.status_code
        except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeEncodeError, TypeError):
            reject()  # httpx does not send this
        sent += 1
        assert status < 500 or (is_probe and status == 503), case.as_curl_command()
        assert str(status) in described, case.as_curl_command()

    ask()
    return sent
