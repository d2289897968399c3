"""Wrong tokens: when their answers wait."""

from __future__ import annotations

from gateway.api.guesses import DELAY, FREE, FREE_IN_ALL, MAX_ADDRESSES, WINDOW, Guesses


def test_one_address_is_slowed() -> None:
    """A few wrong tokens are answered at once, the next ones are not; other addresses notice nothing."""
    guesses = Guesses()
    assert [guesses.wrong("10.0.0.1", 0) for _ in range(FREE + 2)] == [0] * FREE + [DELAY] * 2
    assert guesses.wrong("10.0.0.2", 0) == 0
    assert guesses.wrong("10.0.0.1", WINDOW) == 0


def test_an_ipv6_network_is_one_address() -> None:
    """Whoever has a whole /64 has no more guesses."""
    guesses = Guesses()
    assert [guesses.wrong(f"2001:db8::{number:x}", 0) for number in range(FREE + 1)] == [0] * FREE + [DELAY]


def test_all_addresses_together_are_slowed() -> None:
    """A guess from each of many addresses is slowed too, for as long as there are so many."""
    guesses = Guesses()
    found = [guesses.wrong(f"10.0.{number >> 8}.{number & 255}", 0) for number in range(FREE_IN_ALL + 1)]
    assert found == [0] * FREE_IN_ALL + [DELAY]


def test_many_addresses_do_not_hide_one() -> None:
    """An address that goes on guessing is not forgotten for others, however many there are."""
    guesses = Guesses()
    for number in range(3 * MAX_ADDRESSES):
        guesses.wrong(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", number / 1000)
        delay = guesses.wrong("192.0.2.1", number / 1000)
    assert delay == DELAY
