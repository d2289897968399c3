"""Comparison of what the gateway needs of its broker with what the broker grants. Pure.

Source: MQTT 5.0, sections 3.2.2.3 (CONNACK), 3.9.3 (SUBACK). No packet says what a broker delivers at once to a
client, and what it queues for it: no client can know it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from gateway.config import Config
from gateway.mqtt.session_plan import shared
from gateway.topics import ROOT, subscriptions

SYS = "$SYS/broker/#"
BESIDE_PAYLOAD = 4096
"""Bytes of a packet for topic and properties."""
LARGE_PACKET = 1 << 20
PUBLISHED_AT_ONCE = 20
"""Messages of QoS 1 that the broker should take from the gateway at once, for feedback."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Needs of a configuration. `payload` is the largest payload quota in bytes, and `startup` has it."""

    session_expiry: int
    payload: int
    startup: str
    filters: tuple[str, ...]
    shares: bool
    several_connections: bool = True

    @classmethod
    def of(cls, config: Config) -> Needs:
        mqtt = config.settings.mqtt
        largest = max(config.startups, key=lambda startup: startup.quota.payload, default=None)
        templates = [rule.template for startup in config.startups for rule in startup.topics.values()]
        own = [f"{ROOT}/{startup.slug}/#" for startup in config.startups]
        several = [f"{ROOT}/{startup.slug}/#" for startup in config.startups if len(startup.host) > 1]
        return cls(
            session_expiry=int(mqtt.session_expiry),
            payload=largest.quota.payload if largest else 0,
            startup=largest.slug if largest else "",
            # In a group of its own: the probe must not receive a message of the gateway's.
            filters=(*subscriptions(templates), *own, *shared(several, f"{mqtt.client_id}._probe")),
            shares=bool(several),
            several_connections=mqtt.sessions == "startup",
        )


@dataclass(frozen=True, slots=True)
class Grants:
    """Grants of a broker: CONNACK's properties, the filters that it rejected, and whether a second connection of the
    account left the first one alone. None of it is known where the broker does not speak MQTT 5. Whether it
    `forgets_shared` subscriptions when it restarts is asked only where they are needed."""

    speaks_5: bool
    session_expiry: int = 0
    receive_maximum: int = 65_535
    max_packet_size: int | None = None
    max_qos: int = 2
    retain: bool = True
    wildcards: bool = True
    shared: bool = True
    forgets_shared: bool = False
    assigned_client_id: str | None = None
    server_keep_alive: int | None = None
    rejected: tuple[str, ...] = ()
    several_connections: bool = True

    def as_json(self) -> dict[str, Any]:
        """Return what the broker said, by the names of MQTT 5."""
        if not self.speaks_5:
            return {"mqtt_5": False}
        return {
            "mqtt_5": True,
            "session_expiry_interval": self.session_expiry,
            "receive_maximum": self.receive_maximum,
            "maximum_packet_size": self.max_packet_size,
            "maximum_qos": self.max_qos,
            "retain_available": self.retain,
            "wildcard_subscription_available": self.wildcards,
            "shared_subscription_available": self.shared,
            "assigned_client_identifier": self.assigned_client_id,
            "server_keep_alive": self.server_keep_alive,
            "rejected_filters": list(self.rejected),
            "several_connections": self.several_connections,
        }


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Difference between what the broker grants and what it should. `is_advice`: the gateway works all the same."""

    where: str
    expected: str
    got: str
    hint: str
    is_advice: bool = False

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}; got {self.got}. {self.hint}"

    def as_json(self) -> dict[str, str | bool]:
        return {
            "where": self.where,
            "expected": self.expected,
            "got": self.got,
            "hint": self.hint,
            "advice": self.is_advice,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Grants of a broker, and what is missing of them: what the gateway needs first, then advice."""

    grants: Grants
    shortfalls: tuple[Shortfall, ...]

    @classmethod
    def of(cls, needs: Needs, grants: Grants) -> Comparison:
        if not grants.speaks_5:
            return cls(grants, (_UNKNOWN,))
        found = [*_session(needs, grants), *_packets(needs, grants), *_subscriptions(needs, grants)]
        return cls(grants, tuple(sorted(found, key=lambda shortfall: shortfall.is_advice)))

    @property
    def is_enough(self) -> bool:
        return all(shortfall.is_advice for shortfall in self.shortfalls)

    def as_json(self) -> dict[str, Any]:
        """Return whether it is enough, what is missing, and what the broker said."""
        return {
            "ok": self.is_enough,
            "missing": [shortfall.as_json() for shortfall in self.shortfalls],
            "grants": self.grants.as_json(),
        }


_UNKNOWN = Shortfall(
    "MQTT 5",
    "a broker that says what it grants",
    "MQTT 3.1.1, which cannot: limits of sessions, packets and retained messages are unknown",
    "Check the broker's configuration: sessions must outlive mqtt.session_expiry, packets may be as large as the "
    "largest quota.payload, and queues need bounds (docs/operators-guide.md, The broker)",
    is_advice=True,
)


def _session(needs: Needs, grants: Grants) -> Iterator[Shortfall]:
    if grants.session_expiry < needs.session_expiry:
        yield Shortfall(
            "session expiry",
            f"at least {needs.session_expiry:,} s (mqtt.session_expiry)",
            f"{grants.session_expiry:,} s",
            "After a longer absence of the gateway, what the broker holds for it is lost: raise the broker's limit, or "
            "lower mqtt.session_expiry to what you accept",
        )
    if grants.assigned_client_id is not None:
        yield Shortfall(
            "client id",
            "the client ids that the gateway chooses",
            f"another one, {grants.assigned_client_id!r}",
            "The gateway finds its session again by its client id: have the broker accept it for this account",
        )
    if needs.several_connections and not grants.several_connections:
        yield Shortfall(
            "connections",
            "several connections of the gateway's account, each with its own client id",
            "one: the second ended the first",
            "Give the gateway a listener without use_username_as_clientid (Mosquitto), or raise the account's limit of "
            "connections; otherwise set `mqtt.sessions: one` in gateway.yaml, with which startups share one queue",
        )


def _packets(needs: Needs, grants: Grants) -> Iterator[Shortfall]:
    needed = needs.payload + BESIDE_PAYLOAD
    if grants.max_packet_size is not None and grants.max_packet_size < needed:
        yield Shortfall(
            "packet size",
            f"at least {needed:,} bytes: quota.payload of {needs.startup}, and {BESIDE_PAYLOAD:,} for the topic",
            f"{grants.max_packet_size:,} bytes",
            "Devices that send more are disconnected, without feedback: raise max_packet_size (Mosquitto), or lower "
            "the quota",
        )
    elif grants.max_packet_size is None or grants.max_packet_size > max(LARGE_PACKET, 2 * needed):
        got = "no limit" if grants.max_packet_size is None else f"{grants.max_packet_size:,} bytes"
        yield Shortfall(
            "packet size",
            f"a limit a little above {needed:,} bytes",
            got,
            "One device can fill the broker's memory with large messages: set max_packet_size (Mosquitto)",
            is_advice=True,
        )
    if grants.max_qos < 1:
        yield Shortfall("QoS", "at least 1", "0", "With QoS 0 nothing is acknowledged: raise the broker's maximum")
    if grants.receive_maximum < PUBLISHED_AT_ONCE:
        yield Shortfall(
            "receive maximum",
            f"at least {PUBLISHED_AT_ONCE} messages that the gateway may publish at once",
            f"{grants.receive_maximum}",
            "Feedback to devices is slow, or dropped: raise it",
            is_advice=True,
        )
    if grants.retain:
        yield Shortfall(
            "retained messages",
            "none: the gateway does not need them",
            "the broker keeps them",
            "They often have no limit, so that one device can fill the broker's memory and disk: set "
            "`retain_available false` (Mosquitto)",
            is_advice=True,
        )


def _subscriptions(needs: Needs, grants: Grants) -> Iterator[Shortfall]:
    if not grants.wildcards:
        yield Shortfall(
            "wildcards", "subscriptions with wildcards", "none", f"The gateway subscribes to {ROOT}/…/#: enable them"
        )
    if needs.shares and (not grants.shared or grants.forgets_shared):
        yield Shortfall(
            "shared subscriptions",
            "$share that outlives a restart of the broker, for startups with several hosts",
            "Mosquitto, which forgets them" if grants.shared else "none",
            "Name one host in the startup's file, or use a broker that keeps them (docs/operators-guide.md, Several "
            "hosts)",
        )
    if rejected := [name for name in grants.rejected if name != SYS]:
        yield Shortfall(
            "subscriptions",
            "the right to subscribe to all topics of the configuration",
            f"{_some(rejected)} rejected",
            "Permit them for the gateway's account: `gateway provision apply`, or the broker's access list",
        )
    if SYS in grants.rejected:
        yield Shortfall(
            SYS,
            "the right to read what the broker reports of itself",
            "rejected",
            "Without it the gateway cannot report what the broker drops: permit it for the gateway's account",
            is_advice=True,
        )


def _some(names: Iterable[str], most: int = 3) -> str:
    several = list(names)
    more = f" and {len(several) - most} more" if len(several) > most else ""
    return ", ".join(several[:most]) + more
