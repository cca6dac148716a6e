"""`dss demo`: two small networks trained on digits, joined, certified, and shown on a page."""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path

import torch

from dss.cli.answers import answer
from dss.runs import REPORT

FOLDER, THRESHOLD = Path("runs/demo"), "0.35"
# Judged losses of 0.158 and 0.185, where the task's own 40 epochs at a rate of 0.002 take five times as long to 0.113 and 0.146.
TRAINING = ("--epochs", "8", "--lr", "0.012")


def add(commands: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = commands.add_parser("demo", help="train two small nets on digits, connect them, write the page")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the demo (default: %(default)s, which is replaced)")
    parser.add_argument("--overwrite", action="store_true", help="replace what is in another folder, too")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """The three commands that a user would type, one after the other."""
    from dss.cli import main

    options.out.mkdir(parents=True, exist_ok=True)
    a, b, folder = (str(options.out / name) for name in ("a.pt", "b.pt", "path"))
    replace = ["--overwrite"] if options.overwrite or options.out == FOLDER else []
    commands = [
        ["train", "digits", "--seed", "0", *TRAINING, "--out", a, *replace],
        ["train", "digits", "--seed", "1", *TRAINING, "--out", b, *replace],
        ["connect", a, b, "--task", "digits", "--threshold", THRESHOLD, "--prove", "always", "--out", folder, *replace],
    ]
    documents: list[dict] = []
    if not options.json:
        print("$ export OMP_NUM_THREADS=1")
    with _one_thread():
        for command in commands:
            code = _quoted(main, command, options) if not options.json else _collected(main, command, documents)
            if code:
                break
    if len(documents) == len(commands):
        *ends, found = documents
        answer(options, {"train": ends, "connect": found, "run": folder, "page": str(options.out / "path" / REPORT)}, "")
    return code


@contextmanager
def _one_thread() -> Iterator[None]:
    """Operations of such small networks gain nothing from more threads, which on busy cores wait for each other most of the
    time; and what is computed is then the same on every number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _quoted(main: Callable[[list[str]], int], command: list[str], options: argparse.Namespace) -> int:
    """Run a command as it is typed, and show how that is."""
    print("$ dss", " ".join(command))
    return main([*command, *(["--quiet"] if options.quiet else [])])


def _collected(main: Callable[[list[str]], int], command: list[str], documents: list[dict]) -> int:
    """Run a command for its document."""
    with redirect_stdout(StringIO()) as said:
        code = main([*command, "--json", "--quiet"])
    if said.getvalue():
        documents.append(json.loads(said.getvalue()))
    return code
