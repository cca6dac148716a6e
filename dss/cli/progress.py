"""The meter that a command shows: a bar on a terminal, a line every half minute in a log, nothing with `--quiet`."""

import argparse
import sys

from dss.base.progress import ProgressMeter, TextProgressMeter, TqdmProgressMeter


def meter(options: argparse.Namespace) -> ProgressMeter:
    """What fits the options and where standard error goes."""
    if getattr(options, "quiet", False):
        return ProgressMeter()
    return TqdmProgressMeter() if sys.stderr.isatty() else TextProgressMeter()
