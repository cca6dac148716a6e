"""`dss export`: one bead of a run as an ordinary checkpoint."""

import argparse
from pathlib import Path

import torch

from dss.adapters.reading import located
from dss.base.errors import InputError
from dss.cli.answers import answer
from dss.cli.ends import add_allow
from dss.cli.judges import objectives_of
from dss.cli.writing import add_out, check_out, write_out
from dss.runs import load_run


def add(commands: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = commands.add_parser("export", help="one bead of a run as an ordinary checkpoint")
    parser.add_argument("folder", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument("--bead", type=int, required=True, help="0 is one end, -1 the other")
    add_out(parser, "where the weights go: .pt, .safetensors, or a folder of the kind that the end came from")
    add_allow(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write parameters and buffers of the bead; recalibrated statistics are recomputed for it."""
    check_out(options)
    found = load_run(options.folder)
    if found.summary is not None:
        _ = found.outcome  # whose path is the one that was certified
    beads = found.path.rows
    if not -len(beads) <= options.bead < len(beads):
        raise InputError(f"the path has beads 0 to {len(beads) - 1}, got {options.bead}")
    _objective, judge = objectives_of(found)
    state = judge.state(beads[options.bead])
    with torch.no_grad():
        loss = judge(beads[options.bead][None]).item()
    write_out(options, state, judge.space, like=_kind(found.question["ends"]))
    figures = {
        "out": str(options.out),
        "run": str(options.folder),
        "bead": options.bead,
        "loss": loss,
        "judge": judge.description,
    }
    answer(options, figures, f"{options.out}: bead {options.bead} of {options.folder}, loss {loss:.6g} ({judge.description})")
    return 0


def _kind(ends: list[str]) -> str:
    """The end whose kind a folder takes: the first that is one."""
    return next((end for end in ends if located(end)[0].is_dir()), ends[0])
