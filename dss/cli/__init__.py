"""The command line: parse, call the public API, print, exit code.

Exit codes: 0 done (`connect`: connected), 1 not connected, 2 bad input, 130 interrupted.
"""

import argparse
import sys
from collections.abc import Sequence

from dss._version import __version__
from dss.base.allocator import keep_freed_memory
from dss.base.errors import InputError
from dss.cli import certify, compare, connect, demo, export, figure, plane, shorten, show, train

COMMANDS = (demo, train, connect, certify, shorten, show, compare, plane, figure, export)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="dss", description="Low-loss paths between trained neural networks: find them, prove them, look at them."
    )
    parser.add_argument("--version", action="version", version=f"dss {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    options = parser.parse_args(arguments)
    if not hasattr(options, "run"):
        parser.print_help()
        return 0
    keep_freed_memory()
    try:
        return options.run(options)
    except InputError as error:
        print(f"dss: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ndss: interrupted; what was recorded is kept, and connect --resume goes on from there", file=sys.stderr)
        return 130
