"""`python -m dss` is the `dss` command."""

import sys

from dss.cli import main

if __name__ == "__main__":
    sys.exit(main())
