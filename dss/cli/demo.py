"""`dss demo`: two small networks trained on digits, joined, certified, and shown on a page."""

import argparse
from pathlib import Path

THRESHOLD = "0.35"


def add(commands: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = commands.add_parser("demo", help="train two small nets on digits, connect them, write the page")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder of the demo (default: %(default)s), replaced")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """The three commands that a user would type, one after the other."""
    from dss.cli import main

    options.out.mkdir(parents=True, exist_ok=True)
    a, b, folder = (str(options.out / name) for name in ("a.pt", "b.pt", "path"))
    commands = [
        ["train", "digits", "--seed", "0", "--out", a, "--overwrite"],
        ["train", "digits", "--seed", "1", "--out", b, "--overwrite"],
        ["connect", a, b, "--task", "digits", "--threshold", THRESHOLD, "--prove", "always", "--out", folder, "--overwrite"],
    ]
    for command in commands:
        print("$ dss", " ".join(command))
        code = main(command)
        if code:
            break
    return code
