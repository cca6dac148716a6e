"""What a command answers: words for people or, with `--json`, one JSON document and nothing else."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from dss.base.plain_json import as_json


@contextmanager
def sole_document(options: argparse.Namespace) -> Iterator[None]:
    """With `--json`, whatever else is printed within it (by a task's own code, say) goes to standard error."""
    if not options.json:
        yield
        return
    options.document = sys.stdout
    with redirect_stdout(sys.stderr):
        yield


def answer(options: argparse.Namespace, figures: Any, words: str) -> None:
    """Print the figures as strict JSON if that was asked for, else the words."""
    if not options.json:
        print(words)
    else:
        print(as_json(figures), file=getattr(options, "document", None) or sys.stdout)
