"""The topic grammar: templates, filters, overlaps, routes, subscriptions and the names of devices."""

from __future__ import annotations

import pytest

from gateway.errors import TemplateInvalid
from gateway.topics import Capture, Router, Template, device_is_legal, subscriptions


def test_parse() -> None:
    """A template's levels are literals and captures; its filter has + for each capture."""
    template = Template.parse("testbed/acme/{device}/{room}/climate")
    assert template.levels == ("testbed", "acme", Capture("device"), Capture("room"), "climate")
    assert template.captures == ("device", "room")
    assert template.filter == "testbed/acme/+/+/climate"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1 to 65535 bytes"),
        ("é" * 32_768 + "/{device}", "1 to 65535 bytes"),
        ("testbed/acme/climate", "{device} exactly once"),
        ("testbed/{device}/{device}", "{device} exactly once"),
        ("testbed/{device}/{room}/{room}", "each captured name once"),
        ("testbed/x{device}", "a capture as a whole level"),
        ("testbed/{Device}", "a capture as a whole level"),
        ("testbed/{device}/{_field}", "a capture as a whole level"),
        ("testbed/{device}/{}", "a capture as a whole level"),
        ("testbed/{device", "a capture as a whole level"),
        ("testbed/{device}/+", "no wildcards"),
        ("testbed/{device}/#", "no wildcards"),
        ("testbed/{device}/a+b", "no wildcards"),
        ("testbed/{device}/a\0", "no wildcards"),
        ("feeds/acme/{device}", "outside feeds/, feedback/ and $"),
        ("feedback/acme/{device}", "outside feeds/, feedback/ and $"),
        ("$SYS/{device}", "outside feeds/, feedback/ and $"),
        ("{device}/events/rpc", "a literal first level"),
        ("{site}/{device}", "a literal first level"),
    ],
)
def test_invalid_templates(text: str, expected: str) -> None:
    """An invalid template is rejected, with what was expected."""
    with pytest.raises(TemplateInvalid) as caught:
        Template.parse(text)
    assert expected in caught.value.expected
    assert caught.value.got


@pytest.mark.parametrize(
    ("a", "b", "overlap"),
    [
        ("t/{device}/x", "t/{device}/x", True),
        ("t/{device}/x", "t/{device}/y", False),
        ("t/{device}/{kind}", "t/{device}/y", True),
        ("t/{site}/{device}", "t/berlin/{device}", True),
        ("t/{device}/x", "t/x/{device}", True),
        ("t/{device}", "t/{device}/x", False),
        ("t/{device}", "u/{device}", False),
    ],
)
def test_overlaps(a: str, b: str, overlap: bool) -> None:
    """Two templates overlap where some topic matches both, whichever is asked."""
    one, other = Template.parse(a), Template.parse(b)
    assert one.overlaps(other) is overlap
    assert other.overlaps(one) is overlap


def router(*templates: str) -> Router[str]:
    return Router({Template.parse(text): text for text in templates})


@pytest.mark.parametrize(
    ("topic", "found"),
    [
        ("t/acme/th-1/climate", ("t/acme/{device}/climate", {"device": "th-1"})),
        ("t/acme/th-1/berlin/air", ("t/acme/{device}/{site}/air", {"device": "th-1", "site": "berlin"})),
        ("t/acme/th-1/power", ("t/{owner}/{device}/power", {"owner": "acme", "device": "th-1"})),
        ("t/acme//climate", ("t/acme/{device}/climate", {"device": ""})),
        ("t/acme/th-1", None),
        ("t/acme/th-1/climate/", None),
        ("t/acme/th-1/Climate", None),
        ("", None),
    ],
)
def test_router(topic: str, found: tuple[str, dict[str, str]] | None) -> None:
    """A topic finds the one template that matches it, and its captures; a literal dead end is left again."""
    routes = router("t/acme/{device}/climate", "t/acme/{device}/{site}/air", "t/{owner}/{device}/power")
    assert routes.match(topic) == found


def test_captured_names_belong_to_the_caller() -> None:
    """A match may be changed without changing the next one."""
    routes = router("t/{device}")
    first = routes.match("t/th-1")
    assert first is not None
    first[1].clear()
    assert routes.match("t/th-1") == ("t/{device}", {"device": "th-1"})


def test_subscriptions() -> None:
    """The gateway subscribes to all of testbed/, and once to each template elsewhere."""
    texts = ["testbed/acme/{device}/x", "lora/{app}/{device}/up", "testbed/acme/{device}/y", "tele/{device}/SENSOR"]
    assert subscriptions(map(Template.parse, texts)) == ("testbed/#", "lora/+/+/up", "tele/+/SENSOR")


@pytest.mark.parametrize("name", ["th-1", "00:1B:44:11", "a.b@c", "_x", "Gerät7", "x" * 64])
def test_valid_devices(name: str) -> None:
    """Letters of any script, digits and _ . : @ - are valid in a device's name."""
    assert device_is_legal(name)


@pytest.mark.parametrize("name", ["", "-x", "a b", "a,b", "a=b", "a/b", "a\\", "a\nb", "th-1\n", "x" * 65, '"', "{x}"])
def test_invalid_devices(name: str) -> None:
    """Characters that line protocol, ACLs or files must escape are not."""
    assert not device_is_legal(name)
