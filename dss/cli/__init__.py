"""The command line: parse, call the public API, print, exit code (see `dss.cli.exits`)."""

import argparse
import gc
import sys
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
from dss.cli.answers import sole_document
from dss.cli.common import add_common
from dss.cli.completion import add_completion
from dss.cli.config import completed, file_named
from dss.cli.exits import exit_code
from dss.cli.voice import speaking

COMMANDS = (demo, train, align, check, connect, certify, shorten, barrier, show, compare, plane, figure, export, tree, tasks)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; without arguments, the command that this process is."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        # What imports made, half a million objects, lives as long as the process: looking for garbage among them took .5 s of a demo.
        gc.freeze()

    def work() -> int:
        options = read(words)
        if options.command is None:
            parser().print_help()
            return 0
        keep_freed_memory()
        with sole_document(options), speaking(options):
            return options.run(options)

    return exit_code(next(iter(words), ""), work, show_traceback="--traceback" in words)


def parser() -> argparse.ArgumentParser:
    """What `dss` understands: one subparser a command."""
    made = argparse.ArgumentParser(
        prog="dss", description="Low-loss paths between trained neural networks: find them, prove them, look at them."
    )
    made.add_argument("--version", action="version", version=f"dss {__version__}")
    add_completion(made, commands_of)
    commands = made.add_subparsers(metavar="COMMAND", dest="command")
    for command in COMMANDS:
        command.add(commands)
    for one in commands.choices.values():
        add_common(one)
    return made


def read(words: Sequence[str]) -> argparse.Namespace:
    """The options in a command line and in the options file that it names.

    Raises:
        InputError: the file cannot be used.
    """
    whole, command = parser(), next(iter(words), "")
    if command not in commands_of(whole) or (file := file_named(words)) is None:
        return whole.parse_args(words)
    scratch = commands_of(parser())[command]
    return whole.parse_args([command, *completed(words[1:], commands_of(whole)[command], scratch, file)])


def commands_of(whole: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands' parsers by name."""
    return next(action for action in whole._actions if isinstance(action, argparse._SubParsersAction)).choices
