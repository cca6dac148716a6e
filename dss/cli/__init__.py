"""The command line: parse, call the public API, print, exit code (see `dss.cli.exits`)."""

import argparse
from collections.abc import Sequence

from dss._version import __version__
from dss.base.allocator import keep_freed_memory
from dss.cli import (
    align,
    barrier,
    certify,
    check,
    compare,
    connect,
    demo,
    export,
    figure,
    plane,
    shorten,
    show,
    tasks,
    train,
    tree,
)
from dss.cli.exits import exit_code

COMMANDS = (demo, train, align, check, connect, certify, shorten, barrier, show, compare, plane, figure, export, tree, tasks)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="dss", description="Low-loss paths between trained neural networks: find them, prove them, look at them."
    )
    parser.add_argument("--version", action="version", version=f"dss {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command")
    for command in COMMANDS:
        command.add(commands)
    for one in commands.choices.values():
        one.add_argument("--traceback", action="store_true", help="show where an error came from")
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    keep_freed_memory()
    return exit_code(options.command, lambda: options.run(options), show_traceback=options.traceback)
