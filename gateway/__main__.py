"""`python -m gateway` and the `gateway` command."""

from __future__ import annotations

import sys

from gateway.cli import app, encoding, rendering
from gateway.errors import ConfigInvalid, GatewayError


def main() -> None:
    """Run a command; print the gateway's own errors in words, not as a traceback."""
    encoding.accept_every_character()
    try:
        app(prog_name="gateway")
    except ConfigInvalid as error:
        rendering.console(to_stderr=True).print(rendering.problems(error), soft_wrap=True)
        sys.exit(1)
    except GatewayError as error:
        rendering.console(to_stderr=True).print(rendering.error(str(error)), soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
