"""The meter that a command shows: a bar on a terminal, a line every half minute in a log, nothing with `--quiet`."""

import argparse
import sys

from dss.base.progress import ProgressMeter, TextProgressMeter, TqdmProgressMeter


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """The option that silences progress."""
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")


def meter(options: argparse.Namespace) -> ProgressMeter:
    """What fits the options and where standard error goes."""
    if getattr(options, "quiet", False):
        return ProgressMeter()
    return TqdmProgressMeter() if sys.stderr.isatty() else TextProgressMeter()
