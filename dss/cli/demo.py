"""`dss demo`: two small networks trained on digits, joined, certified, and shown on a page."""

import argparse
from pathlib import Path

FOLDER, THRESHOLD = Path("runs/demo"), "0.35"


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
        ["train", "digits", "--seed", "0", "--out", a, *replace],
        ["train", "digits", "--seed", "1", "--out", b, *replace],
        ["connect", a, b, "--task", "digits", "--threshold", THRESHOLD, "--prove", "always", "--out", folder, *replace],
    ]
    for command in commands:
        print("$ dss", " ".join(command))
        code = main(command)
        if code:
            break
    return code
