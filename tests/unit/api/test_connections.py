"""Places of HTTP connections: who gets one, and who loses it."""

from __future__ import annotations

import ipaddress
from functools import partial

import pytest

from gateway.api.connections import Connection, Connections, most


def taken(connections: Connections, address: str) -> Connection:
    connection = connections.open(address)
    assert connection is not None
    return connection


def test_one_address_has_a_quarter() -> None:
    """Its fifth of sixteen displaces its own oldest idle one, and nobody else's."""
    connections = Connections(16)
    ended: list[int] = []
    for number, address in enumerate(["10.0.0.1", *["10.0.0.2"] * 5]):
        taken(connections, address).end = partial(ended.append, number)
    assert ended == [1]
    assert len(connections) == 5


def test_the_longest_idle_of_all_goes() -> None:
    """When all places are taken, whoever comes gets that of the connection that has been idle for longest."""
    connections = Connections(4)
    ended: list[int] = []
    for number in range(4):
        one = taken(connections, f"10.0.0.{number}")
        one.end = partial(ended.append, number)
        if number == 0:
            one.vouch()
            one.rest()  # idle anew: it has been so for the shortest time of those before
        if number == 1:
            one.vouch()
    for number in (5, 6, 7):
        taken(connections, f"10.0.0.{number}")
    assert ended == [0, 2, 3]


def test_requests_in_progress_are_never_displaced() -> None:
    """With nobody idle a newcomer is rejected."""
    connections = Connections(4)
    for number in range(4):
        taken(connections, f"10.0.0.{number}").vouch()
    assert connections.open("10.0.0.9") is None


def test_strangers_leave_a_quarter_to_others() -> None:
    """Three of four may be in progress without a token; the place of one that ends is free again."""
    connections = Connections(4)
    strangers = [taken(connections, f"10.0.0.{number}") for number in range(4)]
    assert [one.serve_anonymous() for one in strangers] == [True, True, True, False]
    strangers[0].close()
    strangers[0].close()
    assert strangers[3].serve_anonymous()
    assert len(connections) == 3


def test_a_proxy_has_no_share_of_its_own() -> None:
    """All connections may be those of a trusted proxy."""
    connections = Connections(8, [ipaddress.ip_network("10.0.0.0/24")])
    for _ in range(8):
        taken(connections, "10.0.0.7").vouch()


def test_an_ipv6_subscriber_is_one_address() -> None:
    """Addresses of one /64 share their part; those of another have their own."""
    connections = Connections(8)
    for number in range(2):
        taken(connections, f"2001:db8::{number}").vouch()
    assert connections.open("2001:db8::ffff") is None
    taken(connections, "2001:db8:0:1::1")


@pytest.mark.parametrize(
    ("descriptors", "tls", "limit"), [(1024, False, 256), (20_000, False, 2048), (20_000, True, 1024), (3, False, 1)]
)
def test_descriptors_are_left_to_the_data_plane(descriptors: int, tls: bool, limit: int) -> None:
    """HTTP has at most a quarter of them."""
    assert most(descriptors, tls=tls) == limit
