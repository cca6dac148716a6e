"""`dss export`: one bead of a run as an ordinary checkpoint."""

import argparse
from pathlib import Path

import torch

from dss.base.errors import InputError
from dss.base.files import check_writable
from dss.cli.judges import objectives_of
from dss.runs import load_run
from dss.runs.checkpoints import save_state


def add(commands: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = commands.add_parser("export", help="one bead of a run as an ordinary checkpoint")
    parser.add_argument("folder", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument("--bead", type=int, required=True, help="0 is one end, -1 the other")
    parser.add_argument("--out", type=Path, required=True, help="where the weights go: .pt or .safetensors")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write parameters and buffers of the bead; recalibrated statistics are recomputed for it."""
    check_writable(options.out, overwrite=options.overwrite)
    found = load_run(options.folder)
    if found.summary is not None:
        _ = found.outcome  # whose path is the one that was certified
    beads = found.path.beads
    if not -len(beads) <= options.bead < len(beads):
        raise InputError(f"the path has beads 0 to {len(beads) - 1}, got {options.bead}")
    _objective, judge = objectives_of(found)
    state = judge.state(beads[options.bead])
    with torch.no_grad():
        loss = judge(beads[options.bead][None]).item()
    save_state(options.out, state)
    print(f"{options.out}: bead {options.bead} of {options.folder}, loss {loss:.6g} ({judge.description})")
    return 0
