"""`python -m tests.powercut`."""

import sys

from tests.powercut.cli import main

if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
