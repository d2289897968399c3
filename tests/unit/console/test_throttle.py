"""The limit on guesses."""

from __future__ import annotations

from gateway.console.throttle import GUESSES, MAX_ADDRESSES, WINDOW, Throttle

NOW = 1_795_000_000.0


def test_ten_wrong_tokens_a_minute_are_answered() -> None:
    """From one address; others do not suffer, and the oldest failure makes room first."""
    throttle = Throttle()
    for second in range(GUESSES):
        assert throttle.wait("10.0.0.1", NOW + second) == 0
        throttle.failed("10.0.0.1", NOW + second)
    assert throttle.wait("10.0.0.1", NOW + 20) == WINDOW - 20
    assert throttle.wait("10.0.0.2", NOW + 20) == 0
    assert throttle.wait("10.0.0.1", NOW + WINDOW) == 0


def test_addresses_are_forgotten() -> None:
    """The memory for failures is bounded: the addresses that failed last are in it."""
    throttle = Throttle()
    addresses = [str(number) for number in range(MAX_ADDRESSES + 10)]
    for address in addresses:
        for _ in range(GUESSES):
            throttle.failed(address, NOW)
    assert [address for address in addresses if throttle.wait(address, NOW)] == addresses[-MAX_ADDRESSES:]
