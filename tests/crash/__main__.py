"""`python -m tests.crash`."""

import sys

from tests.crash.cli import main

if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
