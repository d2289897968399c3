"""The diff: wanted against actual -> steps. Pure."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.provision import rendering
from gateway.provision.plan import Conflict, Key, Resource, Step, diff


def role(name: str, *acls: str, ours: bool = True, **spec: Any) -> Resource:
    return Resource("mosquitto", "role", name, {"acls": list(acls), **spec}, startup=name, is_ours=ours)


A, B, C = role("a", "read a"), role("b", "read b"), role("c", "read c")


def test_missing_resources_are_created_in_the_wanted_order() -> None:
    """Each missing resource is one step, in the order in which it is wanted, whatever else is there."""
    plan = diff([C, A, B], [])
    assert [str(step) for step in plan.steps] == ["+ mosquitto role c", "+ mosquitto role a", "+ mosquitto role b"]
    assert not plan.is_done


def test_matching_resources_need_no_steps() -> None:
    """Nothing to do, and no conflict: done, in whatever order the server answers."""
    plan = diff([A, B], [B, A])
    assert plan.steps == ()
    assert plan.is_done
    assert diff([], []).is_done


def test_makes_and_changes_keep_the_wanted_order() -> None:
    """A change between two makings stays between them."""
    steps = diff([A, B, C], [role("b", "read everything")]).steps
    assert [(step.action, step.resource.name) for step in steps] == [("create", "a"), ("update", "b"), ("create", "c")]


@pytest.mark.parametrize(
    ("before", "after", "listed"),
    [
        ({"retention_s": 60}, {"retention_s": 90}, ["retention_s: 60 → 90"]),
        ({"name": "Old"}, {"name": "New"}, ["name: Old → New"]),
        ({}, {"name": "New"}, ["name: None → New"]),
        ({"kept": False}, {"kept": True}, ["kept: False → True"]),
        ({"acls": ["x", "y"]}, {"acls": ["y", "z"]}, ["- acls: x", "+ acls: z"]),
        ({"acls": ["x"]}, {"acls": []}, ["- acls: x"]),
        ({"panels": {"a": 1}}, {"panels": {"a": 2}}, ["panels has changed"]),
        ({"acls": "x"}, {"acls": ["x"]}, ["acls has changed"]),
    ],
)
def test_a_change_reads_well(before: dict[str, Any], after: dict[str, Any], listed: list[str]) -> None:
    """An update says what was and what will be; of lists what goes and what comes; of the rest that it changes."""
    resource = Resource("grafana", "thing", "one", after)
    (step,) = diff([resource], [Resource("grafana", "thing", "one", before)]).steps
    assert step == Step("update", resource, tuple(listed))


def test_what_the_server_has_beside_the_wanted_is_not_a_change() -> None:
    """A server may return more of a resource than is wanted of it."""
    assert diff([A], [role("a", "read a", added_by_the_server="more")]).is_done


def test_a_creation_shows_the_new_values() -> None:
    """Strings, numbers and lists are listed; what is always so, or empty, is not."""
    wanted = Resource("x", "y", "z", {"retention_s": 60, "roles": ["a", "b"], "kept": True, "note": "", "deep": {}})
    assert diff([wanted], []).steps[0].changes == ("retention_s: 60", "roles: a", "roles: b")


def source(token: str, **more: Any) -> Resource:
    """A data source, which has a token that InfluxDB makes."""
    return Resource("grafana", "data source", "acme", {"url": "there", "token": token}, "acme", **more)


TOKEN = Key("influxdb", "token", "read-acme")
FOLLOWING = source("old", follows={"token": TOKEN})


def test_what_follows_from_something_made_anew_is_changed_with_it() -> None:
    """Its value is not known yet when the plan is made: whether it looks alike or not, it is listed as replaced."""
    for there in (source("old"), source("older")):
        (step,) = diff([FOLLOWING], [there], renewed={TOKEN}).steps
        assert step == Step("update", FOLLOWING, ("token: replaced",))
    (step,) = diff([FOLLOWING], [], renewed={TOKEN}).steps
    assert step == Step("create", FOLLOWING, ("url: there",))
    assert diff([FOLLOWING], [source("old")], renewed={Key("influxdb", "token", "read-bolt")}).is_done


def test_what_needs_something_in_conflict_waits() -> None:
    """No step for it, nor for what needs or follows from that in turn, on this server or the next; nothing is left
    over by it."""
    bucket = Resource("influxdb", "bucket", "acme")
    token = Resource("influxdb", "token", "read-acme", needs=(bucket.key,))
    rule = Resource("grafana", "alert rule", "acme/silent", needs=(FOLLOWING.key,))
    first = diff([bucket, token, A], [replace(bucket, is_ours=False)])
    assert [step.resource for step in first.steps] == [A]
    there = [source("older"), rule]
    second = diff([FOLLOWING, rule, B], there, waiting=first.waiting, renewed={A.key}, prune=True)
    assert [step.resource for step in second.steps] == [B]
    assert (second.conflicts, second.leftover) == ((), ())


def test_what_a_server_says_to_leave_alone_is_left_alone() -> None:
    """Nothing is done to it, whatever is wanted of it and whatever is replaced."""
    for there in (FOLLOWING, source("older")):
        plan = diff([FOLLOWING], [replace(there, is_left_alone=True)], renewed={TOKEN}, prune=True)
        assert (plan.steps, plan.leftover) == ((), ())


def test_an_object_made_by_others_is_a_conflict() -> None:
    """A wanted name that is taken by what is not ours: no step, not even where it looks alike, and a message that says
    what to do."""
    theirs = role("a", "read a", ours=False)
    plan = diff([A, B], [theirs, B], prune=True)
    assert plan.steps == ()
    assert plan.conflicts == (Conflict(theirs),)
    assert not plan.is_done
    assert str(plan.conflicts[0]) == (
        "mosquitto already has a role 'a', which provisioning did not make: rename or remove it there, then plan again"
    )


def test_without_prune_leftovers_are_listed_and_kept() -> None:
    """What is ours and no longer wanted is listed; the plan is done nevertheless."""
    plan = diff([A], [A, B, role("theirs", ours=False)])
    assert plan.steps == ()
    assert plan.leftover == (B,)
    assert plan.is_done


def test_prune_removes_ours_in_reverse_order_after_the_rest() -> None:
    """What a server lists in the order of creation is removed in reverse, after all creations; the rest stays."""
    plan = diff([role("new")], [A, B, C, role("theirs", ours=False)], prune=True)
    assert [str(step) for step in plan.steps] == [
        "+ mosquitto role new",
        "- mosquitto role c",
        "- mosquitto role b",
        "- mosquitto role a",
    ]
    assert plan.leftover == ()


def test_names_are_of_a_server_and_a_kind() -> None:
    """The same name is another thing on another server, and of another kind."""
    client = Resource("mosquitto", "client", "a")
    bucket = Resource("influxdb", "bucket", "a")
    assert [step.resource for step in diff([A, client, bucket], [A]).steps] == [client, bucket]


def test_the_json_form() -> None:
    """A plan as JSON has the steps with their changes, the conflicts in words, and what is left over."""
    plan = diff([A, B], [role("b", "old"), role("gone")])
    shown = json.loads(json.dumps(rendering.plan_json(plan)))
    base = {"server": "mosquitto", "kind": "role"}
    assert shown == {
        "steps": [
            {"action": "create", **base, "name": "a", "startup": "a", "changes": ["acls: read a"]},
            {"action": "update", **base, "name": "b", "startup": "b", "changes": ["- acls: old", "+ acls: read b"]},
        ],
        "conflicts": [],
        "leftover": [{**base, "name": "gone"}],
        "stays": [],
    }
    (conflict,) = rendering.plan_json(diff([A], [role("a", ours=False)]))["conflicts"]
    assert "did not make" in conflict
