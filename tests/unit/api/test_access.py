"""Who may see what: decided once, for every route."""

from __future__ import annotations

import pytest

from gateway.api.auth import Principal


@pytest.mark.parametrize(("whose", "may"), [("acme", True), ("birch", False), (None, True)])
def test_a_token_opens_its_own_startup(whose: str | None, may: bool) -> None:
    """A startup's token opens that startup and no other; an operator's opens all."""
    assert Principal(whose).may_see("acme") is may
