"""`dss --print-completion`: a script with which a shell completes commands, options, choices and files.

The script is static (`shtab`): a completion that ran this program at every TAB would wait for torch to be imported.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dss.base.errors import InputError

SHELLS = ("bash", "zsh")
# Arguments that name files, though they are read as text.
FILES = ("task", "config", "start", "end")


def add_completion(parser: argparse.ArgumentParser, commands: Callable[[argparse.ArgumentParser], dict]) -> None:
    """Register the option.

    Args:
        commands: of a whole parser, by name.
    """

    class Print(argparse.Action):
        def __call__(self, parser: argparse.ArgumentParser, options: Any, shell: Any, flag: Any = None) -> None:
            print(script(parser, shell, commands(parser)))
            parser.exit(0)

    parser.add_argument(
        "--print-completion",
        choices=SHELLS,
        action=Print,
        help="print a script that completes words in this shell (docs/command_line.md)",
    )


def script(parser: argparse.ArgumentParser, shell: str, commands: dict[str, argparse.ArgumentParser]) -> str:
    """The script for a shell.

    Raises:
        InputError: shtab is not installed.
    """
    try:
        import shtab  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError("completion needs shtab; pip install 'dynamic-string-sampling[completion]'") from error
    for command in commands.values():
        for action in command._actions:
            if action.type is Path or action.dest in FILES or action.dest == "out":
                action.complete = shtab.FILE  # pyright: ignore[reportAttributeAccessIssue]
    return shtab.complete(parser, shell=shell)
