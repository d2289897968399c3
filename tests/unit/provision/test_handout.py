"""Hand-outs: all that a startup needs, nothing of others, and an example that works."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Config, Settings, Startup
from gateway.config.models import Http
from gateway.provision.handout import Endpoints, handout
from gateway.provision.plan import Credential
from gateway.provision.settings import ProvisionSettings
from tests.builders import NOW, batch, message, outcome_of, pipeline, samples, startup

PLACES = Endpoints("mqtt://broker.example:2883", "https://bed.example", "https://grafana.example")
CREDENTIALS = [
    Credential("acme", "MQTT account", "acme", "secret-of-acme"),
    Credential("acme", "MQTT account", "acme.th-1", "secret-of-th-1"),
    Credential("bolt", "MQTT account", "bolt", "secret-of-bolt"),
]


def page(one: Startup, endpoints: Endpoints = PLACES, token: str = "") -> str:
    return handout(one, CREDENTIALS, endpoints, NOW, token)


def command(text: str) -> list[str]:
    """The words of the page's mosquitto_pub, as a shell reads them."""
    found = re.search(r"^mosquitto_pub .*\\\n.*$", text, re.MULTILINE)
    assert found is not None
    return shlex.split(found[0])


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def with_rule(topic: str = "testbed/acme/{device}/climate", **rule: Any) -> Startup:
    return startup(topics={"climate": {"topic": topic, **rule}})


def test_hand_out_names_accounts_topics_and_fields() -> None:
    """Who, until when, where, with which accounts, on which topics with which fields."""
    acme = startup(
        name="Acme Air",
        cohort="spring",
        until="2027-03-31",
        topics={
            "climate": {
                "topic": "testbed/acme/{device}/climate",
                "fields": {"t": {"from": "/values/t", "type": "float", "unit": "celsius"}, "on": {"type": "bool"}},
            },
            "power": {"topic": "meters/{device}/{line}", "fields": {"w": {"type": "int"}}},
        },
    )
    text = page(acme, token="token-of-acme")
    assert text.startswith("# Acme Air on the test bed\n")
    for expected in (
        "part of spring.",
        "ends on 2027-03-31.",
        "| MQTT broker | `mqtt://broker.example:2883` |",
        "<https://bed.example>",
        "<https://grafana.example>",
        "| HTTP API token | | `token-of-acme` |",
        "| MQTT account | `acme.th-1` | `secret-of-th-1` |",
        "| `testbed/acme/{device}/climate` | `/values/t` float (celsius), `/on` bool |",
        "| `meters/{device}/{line}` | `/w` int |",
        "feedback/acme/DEVICE",
        "https://bed.example/v1/startups/acme/latest",
    ):
        assert expected in text


def test_hand_out_has_no_credentials_of_another_startup() -> None:
    """Only the startup's own credentials, whoever else's were made in the same run."""
    text = page(startup("bolt"))
    assert "secret-of-bolt" in text
    assert "acme" not in text


def test_hand_out_without_credentials_says_so() -> None:
    """Without credentials, token, Grafana, cohort and end date the page says so, or leaves it out."""
    text = handout(startup("cedar"), CREDENTIALS, Endpoints("mqtt://broker", "http://bed", ""), NOW)
    assert "no new account" in text
    assert "| Grafana | not set up |" in text
    assert "HTTP API token" not in text
    assert "ends on" not in text
    assert "part of" not in text


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("mqtt://broker.example:2883", "broker.example", "2883"),
        ("mqtt://broker.example", "broker.example", ""),
        ("mqtts://broker.example/", "broker.example", "8883"),
        ("mqtts://broker.example:9883", "broker.example", "9883"),
        ("broker.example", "broker.example", ""),
        ("broker.example:2883", "broker.example", "2883"),
    ],
)
def test_the_example_goes_to_the_broker(url: str, host: str, port: str) -> None:
    """The command names the broker's host, and its port where that is not the default of mosquitto_pub."""
    words = command(page(startup(), Endpoints(url, "http://bed", "")))
    assert option(words, "-h") == host
    assert (option(words, "-p") if "-p" in words else "") == port
    assert option(words, "-u") == "acme.DEVICE"


RULES: Mapping[str, Mapping[str, Any]] = {
    "one float": {"fields": {"t": {"type": "float"}}},
    "every type": {
        "fields": {name: {"from": f"/{name}", "type": name} for name in ("float", "int", "bool", "string")},
    },
    "ranges": {
        "fields": {
            "low": {"type": "float", "max": -5},
            "high": {"type": "float", "min": 1000},
            "narrow": {"type": "float", "min": 0.001, "max": 0.004},
            "exact": {"type": "float", "min": 7.125, "max": 7.125},
            "large": {"type": "float", "min": 1_000_000.1, "max": 1_000_000.2},
            "above": {"type": "int", "min": 3},
            "between": {"type": "int", "min": -3.5, "max": -2.5},
            "below": {"type": "int", "max": -1},
        }
    },
    "nested": {
        "fields": {
            "voltage": {"from": "/meter/voltage", "type": "float"},
            "current": {"from": "/meter/current", "type": "float"},
            "second": {"from": "/values/1", "type": "int"},
        }
    },
    "all optional": {"fields": {"t": {"type": "float", "required": False}, "h": {"type": "float", "required": False}}},
    "names that a shell would take apart": {"fields": {"t": {"from": "/it's $HOME `here`", "type": "float"}}},
    "tags": {"fields": {"t": {"type": "float"}}, "tags": {"firmware": "/fw"}},
    "captures": {"topic": "testbed/acme/{device}/{room}/climate", "fields": {"t": {"type": "float"}}},
    "another root": {"topic": "it's/a b/{device}/up", "fields": {"t": {"type": "float"}}},
    **{
        f"time in {unit}": {"fields": {"t": {"type": "float"}}, "time": {"from": "/at/time", "unit": unit}}
        for unit in ("s", "ms", "us", "ns", "rfc3339")
    },
}


@pytest.mark.parametrize("one", [*(with_rule(**rule) for rule in RULES.values()), *samples().startups],
                         ids=[*RULES, *(sample.slug for sample in samples().startups)])  # fmt: skip
def test_the_example_is_accepted(one: Startup) -> None:
    """The example message, as a shell hands it to mosquitto_pub, is taken by the startup's first rule: no reason
    against it."""
    words = command(page(one))
    topic, payload = option(words, "-t"), option(words, "-m")
    outcome = outcome_of(pipeline(one), batch(message(payload, topic)))
    assert outcome.rejections == []
    (reading,) = outcome.readings[one.slug]
    assert reading.device == "DEVICE"
    assert reading.measurement == next(iter(one.topics))


def test_a_rule_that_accepts_nothing_has_no_example() -> None:
    """The page shows no message that the gateway would reject."""
    text = page(with_rule(fields={"t": {"type": "int", "min": 0.2, "max": 0.8}}))
    assert "First message" not in text
    assert text.endswith("| `testbed/acme/{device}/climate` | `/t` int |\n")


def test_the_gateways_own_https_is_on_it() -> None:
    """Where no address is set the page names the gateway's own, with `https` where it has a certificate."""
    settings = Settings(http=Http(listen="bed.example:8443", cert_file=Path("cert.pem"), key_file=Path("key.pem")))
    endpoints = Endpoints.of(Config(settings=settings, startups=()), ProvisionSettings())
    assert endpoints.http == "https://bed.example:8443"


def test_the_page_of_several_hosts_has_the_startups_own() -> None:
    """Over HTTP each startup is served by its host; all have the same broker."""
    hosts = {name: {"url": f"https://{name}.example/"} for name in ("north", "south")}
    config = Config(settings=Settings.model_validate({"hosts": hosts}), startups=())
    found = [PLACES.on_host(config, startup(host=host)).http for host in ("south", ["north", "south"])]
    assert found == ["https://south.example", "https://north.example"]
    assert PLACES.on_host(config, startup()).http == "https://north.example"
    assert PLACES.on_host(Config(settings=Settings(), startups=()), startup()) is PLACES
