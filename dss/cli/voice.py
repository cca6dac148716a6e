"""What `--verbose` says: versions, data, seeds, what was chosen and why, and how long stages took.

All wings say it to Python's `logging`, below the name `dss`; a program of your own may listen there too.
"""

import argparse
import logging
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dss._version import __version__
from dss.base.progress import say_above
from dss.cli.config import is_left_out

log = logging.getLogger(__name__)


class Above(logging.Handler):
    """Lines on standard error, above a progress bar if there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.began = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        say_above(f"[{time.monotonic() - self.began:7.1f} s] {record.getMessage()}")


@contextmanager
def speaking(options: argparse.Namespace) -> Iterator[None]:
    """Within it, what the package logs is said if `--verbose` asks for it."""
    if not options.verbose:
        yield
        return
    root, handler = logging.getLogger("dss"), Above()
    before, level = root.propagate, root.level
    root.addHandler(handler)
    root.propagate = False
    root.setLevel(logging.INFO)
    _introduce(options)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.propagate = before
        root.setLevel(level)


def _introduce(options: argparse.Namespace) -> None:
    log.info(
        "dss %s, torch %s, Python %s, %s, %d threads", __version__, torch.__version__, platform.python_version(),
        platform.platform(), torch.get_num_threads(),
    )  # fmt: skip
    said = {name: value for name, value in vars(options).items() if name not in ("run", "parser", "document", "command")}
    log.info("%s with %s", options.command, ", ".join(f"{n}={v}" for n, v in said.items() if not is_left_out(v)))
