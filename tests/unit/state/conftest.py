"""State that the tests of its tables share."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.state.database import FILE_NAME
from tests.builders import database


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[sqlite3.Connection]:
    """A connection to the state that the gateway itself made."""
    async with database(tmp_path / FILE_NAME):
        pass
    made = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    yield made
    made.close()
