"""The options that every command has."""

import argparse

OF_EVERY_COMMAND = ("config", "json", "quiet", "verbose", "traceback")


def add_common(parser: argparse.ArgumentParser) -> None:
    """Register them, and the hidden opposite of every flag: what an options file turns on, the command line can turn off."""
    group = parser.add_argument_group("of every command")
    group.add_argument(
        "--config", metavar="FILE", help="take options from a TOML file, or from a run folder; what is typed goes first"
    )
    group.add_argument("--json", action="store_true", help="print the figures alone, as one JSON document")
    loud = group.add_mutually_exclusive_group()
    loud.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    loud.add_argument(
        "-v", "--verbose", action="store_true", help="say versions, data, seeds, what was chosen and why, and times of stages"
    )
    group.add_argument("--traceback", action="store_true", help="show where an error came from")
    for action in list(parser._actions):
        if isinstance(action, argparse._StoreTrueAction):
            parser.add_argument(
                *map(_opposite, action.option_strings[-1:]), dest=action.dest, action="store_false",
                default=argparse.SUPPRESS, help=argparse.SUPPRESS,
            )  # fmt: skip
    parser.set_defaults(parser=parser)


def _opposite(flag: str) -> str:
    return flag.replace("--no-", "--", 1) if flag.startswith("--no-") else flag.replace("--", "--no-", 1)
