"""Planted permutations given to rebasin, the other package that aligns PyTorch models as they are.

    pip install rebasin                       # 0.0.47 was measured; it is no dependency of this project
    python -m benchmarks.rebasin              # the networks of `benchmarks.symmetry planted`

A copy of a freshly initialised network has its units shuffled, as in `benchmarks.symmetry`; rebasin is to find the order of the original. Counted are
copies and tensors that come back bit for bit, and how far the largest output of 64 digits has moved: reordering moves none.
"""

import argparse
import copy
import importlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor, nn

import dss
from benchmarks.records import Record, Records, as_table, figure
from benchmarks.symmetry import PLANTED, objectives

FILE = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).parent.parent / "docs" / "symmetry.md"


def shuffled(model: nn.Module, seed: int) -> nn.Module:
    """The same function with its units in a random order."""
    training, _ = objectives(model)
    point = training.space.flatten(model.state_dict())
    specification = dss.align(training, point, point).specification
    other = copy.deepcopy(model)
    other.load_state_dict(specification.apply(model.state_dict(), specification.random(torch.Generator().manual_seed(seed))))
    return other


def measured(make: Callable[[], nn.Module], seeds: int) -> Record:
    """What rebasin makes of shuffled copies."""
    descent: Any = importlib.import_module("rebasin").PermutationCoordinateDescent
    x = cast(tuple[Tensor, Tensor], dss.load_task("digits").train)[0]
    copies, tensors, moved, seconds = 0, 0, [], []
    for seed in range(seeds):
        torch.manual_seed(seed)
        model = make().eval()
        other = shuffled(model, seed)
        with torch.no_grad():
            before = other(x[:64])
            began = time.perf_counter()
            descent(model, other, input_data_b=x[:4]).rebasin()
            seconds.append(time.perf_counter() - began)
            moved.append(((other(x[:64]) - before).abs().max() / before.abs().max()).item())
        found = {name: tensor for name, tensor in other.state_dict().items() if tensor.ndim}
        same = [torch.equal(tensor, model.state_dict()[name]) for name, tensor in found.items()]
        copies, tensors = copies + all(same), tensors + sum(same)
    return {
        "seeds": seeds, "copies": copies, "tensors": tensors / seeds, "of": len(found), "moved": max(moved), "seconds": median(seconds),
    }  # fmt: skip


def pages_of(results: Mapping[str, Mapping[str, Record]]) -> dict[str, str]:
    """The table of the page."""
    rows = [
        (
            name,
            f"{r['copies']}/{r['seeds']}",
            f"{r['tensors']:.3g} of {r['of']}",
            f"{100 * r['moved']:.2g} %",
            figure(r["seconds"]),
        )
        for name, r in results.get("rebasin", {}).items()
    ]
    return {"rebasin": as_table(("network", "copies restored", "tensors restored", "outputs moved", "seconds"), rows)}


def main() -> None:
    """Measure what is not in the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    records = Records(FILE)
    for name, make in PLANTED.items():
        if not records.has("rebasin", name):
            records.add("rebasin", name, measured(make, options.seeds))
            print(name, records.results["rebasin"][name], flush=True)


if __name__ == "__main__":
    main()
