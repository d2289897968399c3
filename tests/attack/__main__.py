"""`python -m tests.attack`."""

import sys

from tests.attack.cli import main

if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
