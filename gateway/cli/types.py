"""`gateway types`: types of fields, as the first readings fixed them."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from gateway.cli import rendering
from gateway.cli.http_client import Client
from gateway.cli.options import DEFAULT_DIR, ConfigDir, Json, Token, Url, print_json
from gateway.config import credentials, load
from gateway.state.field_types import by_field
from gateway.state.reader import StateReader
from gateway.timestamps import to_rfc3339

app = typer.Typer(no_args_is_help=True, help="Types of fields, as the first readings fixed them.")


@app.command("list")
def list_types(startup: str, config: ConfigDir = DEFAULT_DIR, json: Json = False) -> None:
    """List the type of each field of a startup, since when it has it, and which device sent its first value."""
    found = [row for _, row in sorted(by_field(StateReader(load(config).state_dir).types(startup)).items())]
    if json:
        print_json([row.as_json() for row in found])
        return
    table = Table(box=None, pad_edge=False)
    for column in ("measurement", "field", "type", "since", "device"):
        table.add_column(column)
    for row in found:
        table.add_row(
            row.measurement, row.field, row.type, to_rfc3339(row.since_ns), row.device or "(named by its rule)"
        )
    rendering.console().print(table if found else f"no readings of {startup} have been accepted yet")


@app.command("forget")
def forget_type(
    startup: str,
    measurement: str,
    field: Annotated[str, typer.Argument(help="The field; without it, all of the measurement.")] = "",
    config: ConfigDir = DEFAULT_DIR,
    token: Token = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """Let the running gateway forget the type of a field, once the store has no readings of it any more."""
    loaded = load(config)
    client = Client(loaded, token or credentials.operator_token(loaded.settings), url)
    wanted = {"startup": startup, "measurement": measurement, "field": field}
    answer = client.post("/v1/operator/types/forget", wanted)
    if json:
        print_json(answer)
    else:
        rendering.console().print(f"forgotten: {answer['forgotten']}")
    raise typer.Exit(0 if answer["forgotten"] else 1)
