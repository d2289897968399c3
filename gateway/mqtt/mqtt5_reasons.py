"""Reason codes of MQTT 5 in words (MQTT 5.0, section 2.4). Codes are not ints, despite mqtt5's stubs. Pure."""

from __future__ import annotations

from typing import Protocol, SupportsInt

import mqtt5

_FAILURE = 0x80
_Why = mqtt5.DisconnectReasonCode
_DISCONNECT_ADVICE = {
    int(_Why.SESSION_TAKEN_OVER): (
        "another client has connected with the same client id: has another host read a newer configuration (this one "
        "then leaves the session to it, as soon as it has read that too), or is a second gateway running with this "
        "mqtt.client_id, on one host?"
    ),
    int(_Why.NOT_AUTHORIZED): "does the gateway's account have the permissions that it needs? See the broker's log",
    int(_Why.SERVER_SHUTTING_DOWN): "the gateway connects again when the broker is back",
    int(_Why.ADMINISTRATIVE_ACTION): "an administrator of the broker did this; see its log",
    int(_Why.KEEP_ALIVE_TIMEOUT): "it received nothing from the gateway: is the machine overloaded?",
    int(_Why.PACKET_TOO_LARGE): "raise the broker's limit on packet size",
    int(_Why.RECEIVE_MAX_EXCEEDED): "lower mqtt.in_flight",
    int(_Why.QUOTA_EXCEEDED): "raise the broker's quota for the gateway's account",
    int(_Why.MESSAGE_RATE_TOO_HIGH): "raise the broker's rate limit for the gateway's account",
}


class _Code(SupportsInt, Protocol):
    @property
    def name(self) -> str: ...


class Answer(Protocol):
    """A packet that gives a reason."""

    @property
    def reason_code(self) -> _Code: ...
    @property
    def reason_str(self) -> str | None: ...


def is_failure(code: SupportsInt) -> bool:
    """Return whether a reason code means failure."""
    return int(code) >= _FAILURE


def in_words(packet: Answer) -> str:
    """Return the reason of a packet as words, with the broker's own reason string."""
    words = packet.reason_code.name.lower().replace("_", " ")
    return f"{words} ({packet.reason_str})" if packet.reason_str else words


def disconnect_advice(packet: Answer) -> str:
    """Return what to do about a DISCONNECT."""
    return _DISCONNECT_ADVICE.get(int(packet.reason_code), "see the broker's log")
