"""Routes of the types of fields."""

from __future__ import annotations

from pathlib import Path

from gateway.errors import StateUnavailable
from gateway.state import field_types
from gateway.state.database import FILE_NAME
from gateway.state.field_types import FieldType
from tests.builders import NOW, database
from tests.unit.api.services import client, services

WANTED = {"startup": "acme", "measurement": "climate", "field": "t"}


async def test_a_startup_sees_its_own_types(tmp_path: Path) -> None:
    """Types are listed by measurement and field, without those of others and those that are forgotten."""
    rows = [
        FieldType("acme", "climate", "t", "float", "th-1", NOW),
        FieldType("acme", "air", "co2", "int", "", NOW),
        FieldType("acme", "air", "gone", "", "", NOW),
        FieldType("birch", "air", "co2", "string", "", NOW),
    ]
    async with database(tmp_path / FILE_NAME) as state:
        await state.write(lambda connection: field_types.keep(connection, rows))
    async with client(services(tmp_path)) as one:
        body = (await one.get("/v1/startups/acme/types")).json()
        assert [(row["measurement"], row["field"], row["type"], row["device"]) for row in body["types"]] == [
            ("air", "co2", "int", None),
            ("climate", "t", "float", "th-1"),
        ]
        assert (await one.get("/v1/startups/birch/types")).status_code == 403


async def test_only_operators_forget(tmp_path: Path) -> None:
    """An operator has a type forgotten; a startup may not, and the answer says where it cannot be done."""
    asked: list[tuple[str, ...]] = []

    async def forget(*arguments: str) -> int:
        asked.append(arguments)
        if len(asked) > 1:
            raise StateUnavailable("the disk is full")
        return 1

    of = services(tmp_path, forget_type=forget)
    async with client(of) as one:
        assert (await one.post("/v1/operator/types/forget", json=WANTED)).status_code == 403
    async with client(of, "operator-token") as operator:
        assert (await operator.post("/v1/operator/types/forget", json=WANTED)).json() == {"forgotten": 1}
        assert (await operator.post("/v1/operator/types/forget", json=WANTED)).status_code == 503
        unknown = await operator.post("/v1/operator/types/forget", json=WANTED | {"startup": "nobody"})
        assert unknown.status_code == 404
    assert asked == [("acme", "climate", "t")] * 2
