"""What reordering units is worth: planted permutations, and the straight line between networks trained apart.

    python -m benchmarks.symmetry planted        # 20 seeds a network: is the shuffled copy restored bit for bit?
    python -m benchmarks.symmetry widths         # digits, one hidden layer's width from 16 to 512
    python -m benchmarks.symmetry pairs          # five pairs each: convolutions with BatchNorm, ResNets, a transformer
    python -m benchmarks.symmetry proved         # the largest loss of the line from both sides, and a proved path

The straight line's excess is its largest loss over 25 points less that of the worse end, on scikit-learn's 597 test
digits. Ends are trained with Adam on the other 1,200 from different seeds. All on the CPU.
What is in the JSON file is not measured again.
"""

import argparse
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import cast

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import dss
from benchmarks.records import Record, Records, as_table, figure
from models.mlp import MLP
from models.resnet import ResNet
from models.transformer import RowTransformer

POINTS = 25
FILE = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).parent.parent / "docs" / "symmetry.md"
WIDTHS = (16, 32, 64, 128, 256, 512)
MLP_STEPS, OTHER_STEPS = 800, 300
# Of the bracket of a line's largest loss.
TOLERANCE, SECONDS = 0.02, 120.0


def conv_batch_norm(width: int) -> nn.Module:
    """Two convolutions with BatchNorm, the mean over the image, logits."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(2 * width, 10),
    )  # fmt: skip


Makers = Mapping[str, Callable[[], nn.Module]]
PLANTED: Makers = {
    **{f"MLP, 3 hidden layers of {width}": partial(MLP, 64, 10, width=width, depth=4) for width in (16, 32, 64, 128, 256)},
    "MLP, 8 hidden layers of 64": partial(MLP, 64, 10, width=64, depth=9),
    "ResNet-20, width 8": partial(ResNet, width=8),
    "ResNet-20, width 16": ResNet,
    "ResNet-20, width 16, no normalisation": partial(ResNet, norm=False),
    "transformer, 2 blocks, 4 heads": partial(RowTransformer, blocks=2),
}
MLPS: Makers = {str(width): partial(MLP, 64, 10, width=width, depth=3) for width in WIDTHS}
OTHERS: Makers = {
    "two convolutions with BatchNorm, width 8": partial(conv_batch_norm, 8),
    "the same, width 32": partial(conv_batch_norm, 32),
    "ResNet-8, width 16, BatchNorm": partial(ResNet, blocks=1),
    "ResNet-8, width 16, no normalisation": partial(ResNet, blocks=1, norm=False),
    "transformer, width 32, 4 heads": RowTransformer,
}


def objectives(model: nn.Module) -> tuple[dss.NetworkObjective, dss.Objective]:
    """Training loss and judge on the digits."""
    task = dss.load_task("digits")
    training = dss.NetworkObjective(model, cross_entropy, task.train)
    return training, dss.NetworkObjective(model, cross_entropy, task.judge).calibrated_by(training)


def trained(make: Callable[[], nn.Module], seed: int, steps: int) -> torch.Tensor:
    """A point after that many steps of Adam."""
    torch.manual_seed(seed)
    model, (x, y) = make().train(), cast(tuple[torch.Tensor, torch.Tensor], dss.load_task("digits").train)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(steps):
        index = torch.randint(len(x), (128,))
        optimizer.zero_grad()
        cross_entropy(model(x[index]), y[index]).backward()
        optimizer.step()
    return dss.ParameterSpace.of(model).flatten(model.state_dict())


def excess(judge: dss.Objective, a: torch.Tensor, b: torch.Tensor) -> float:
    """The straight line's largest loss less that of the worse end."""
    t = torch.linspace(0, 1, POINTS, dtype=torch.float64)[:, None]
    losses = torch.cat([judge(row[None]) for row in ((1 - t) * a + t * b).to(a.dtype)])
    return (losses.max() - max(losses[0], losses[-1])).item()


def planted(make: Callable[[], nn.Module], seeds: int) -> Record:
    """Random networks and shuffled copies of them: how many are restored bit for bit."""
    restored, seconds, units = [0, 0], [], 0
    for seed in range(seeds):
        torch.manual_seed(seed)
        model = make()
        training, _ = objectives(model)
        point = training.space.flatten(model.state_dict())
        specification = dss.align(training, point, point).specification
        units = sum(group.units for group in specification.groups.values())
        shuffled = specification.apply(point, specification.random(torch.Generator().manual_seed(seed)))
        for number, by in enumerate(("weights", "activations")):
            began = time.perf_counter()
            found = dss.align(training, point, shuffled, by=by, seed=seed)
            seconds += [time.perf_counter() - began] if number == 0 else []
            restored[number] += torch.equal(found.point, point)
    return {"units": units, "seeds": seeds, "weights": restored[0], "activations": restored[1], "seconds": median(seconds)}


def lines(make: Callable[[], nn.Module], seed: int, steps: int) -> Record:
    """One pair: the straight line's excess as trained, and after alignment."""
    training, judge = objectives(make())
    a, b = trained(make, 2 * seed, steps), trained(make, 2 * seed + 1, steps)
    began = time.perf_counter()
    found = dss.align(training, a, b)
    seconds = time.perf_counter() - began
    ends = {
        "trained": b,
        "weights": found.point,
        "activations": dss.align(training, a, b, by="activations").point,
        "rescaled": dss.align(training, a, b, rescale=True).point,
    }
    return {**{name: excess(judge, a, end) for name, end in ends.items()}, "seconds": seconds}


def proved(make: Callable[[], nn.Module], seed: int, steps: int) -> Record:
    """One pair: its lines' largest losses from both sides, and a proved path to the reordered copy at 1.05 times the worse end."""
    training, judge = objectives(make())
    a, b = trained(make, 2 * seed, steps), trained(make, 2 * seed + 1, steps)
    aligned = dss.align(training, a, b).point
    worse = max(judge(torch.stack([a, aligned])).tolist())
    found = dss.connect(training, a, aligned, threshold=1.05 * worse, judge=judge, prove="always", seed=seed)
    path = {"upper": found.certificate.upper, "beads": found.path.intermediate_beads, "length": found.path.normalized_length}
    return {
        "worse end": worse, "trained": bracket(judge, a, b), "aligned": bracket(judge, a, aligned), "threshold": 1.05 * worse, **path,
    }  # fmt: skip


def bracket(judge: dss.Objective, a: torch.Tensor, b: torch.Tensor) -> list[float | None]:
    """A lower and an upper side of the straight line's largest loss, both proved; None where a side is not known."""
    found = dss.bracket(judge, dss.Path.straight(a, b), tolerance=TOLERANCE, limits=dss.Limits(seconds=SECONDS))
    return [side if math.isfinite(side) else None for side in (found.lower, found.upper)]


def pages_of(results: Mapping[str, Mapping[str, Record]]) -> dict[str, str]:
    """The tables of the page, from what was measured."""
    return {table: DRAWN[table](records) for table, records in results.items()}


def _planted_table(records: Mapping[str, Record]) -> str:
    rows = [
        (name, r["units"], f"{r['weights']}/{r['seeds']}", f"{r['activations']}/{r['seeds']}", figure(r["seconds"]))
        for name, r in records.items()
    ]
    return as_table(("network", "units", "by weights", "by activations", "seconds by weights"), rows)


def _lines_table(records: Mapping[str, Record], first: str) -> str:
    """Median and range of the pairs of each network."""
    methods = ("trained", "weights", "activations", "rescaled")
    rows = []
    for name in dict.fromkeys(key.rpartition(" / ")[0] for key in records):
        pairs = [r for key, r in records.items() if key.rpartition(" / ")[0] == name]
        cells = [[r[method] for r in pairs] for method in methods]
        shown = [f"{figure(median(cell))} ({figure(min(cell))} to {figure(max(cell))})" for cell in cells]
        better = sum(r["weights"] < r["trained"] for r in pairs)
        rows.append((name, *shown, f"{better}/{len(pairs)}", figure(median(r["seconds"] for r in pairs))))
    head = (
        first,
        "as trained",
        "by weights",
        "by activations",
        "by weights, rescaled",
        "better by weights",
        "seconds by weights",
    )
    return as_table(head, rows)


def _proved_table(records: Mapping[str, Record]) -> str:
    def between(sides: list[float | None]) -> str:
        return " to ".join("?" if side is None else figure(side, up=up) for side, up in zip(sides, (False, True), strict=True))

    rows = [
        (
            name.partition(" / ")[0], figure(r["worse end"]), between(r["trained"]), between(r["aligned"]),
            "not proved" if r["upper"] is None else figure(r["upper"], up=True), r["beads"], figure(r["length"]),
        )
        for name, r in records.items()
    ]  # fmt: skip
    head = (
        "width",
        "worse end",
        "line as trained",
        "line to the reordered copy",
        "a path to it, at most",
        "its intermediate beads",
        "length",
    )
    return as_table(head, rows)


DRAWN: dict[str, Callable[[Mapping[str, Record]], str]] = {
    "planted": _planted_table,
    "widths": partial(_lines_table, first="width"),
    "pairs": partial(_lines_table, first="network"),
    "proved": _proved_table,
}


def work(table: str, seeds: int, pairs: int) -> dict[str, Callable[[], Record]]:
    """What a table needs, by the name of each of its results."""
    if table == "planted":
        return {name: partial(planted, make, seeds) for name, make in PLANTED.items()}
    makers, steps = (OTHERS, OTHER_STEPS) if table == "pairs" else (MLPS, MLP_STEPS)
    measure, count = (proved, 1) if table == "proved" else (lines, pairs)
    return {f"{name} / {p}": partial(measure, make, p, steps) for name, make in makers.items() for p in range(count)}


def main() -> None:
    """Measure of the tables asked for what is not in the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", metavar="TABLE", help=", ".join(DRAWN))
    parser.add_argument("--seeds", type=int, default=20, help="of planted permutations")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=FILE, help="the JSON file (default: %(default)s)")
    options = parser.parse_args()
    if unknown := [table for table in options.tables if table not in DRAWN]:
        parser.error(f"there are tables {', '.join(DRAWN)}, got {', '.join(unknown)}")
    records = Records(options.out)
    for table in options.tables:
        for key, measure in work(table, options.seeds, options.pairs).items():
            if not records.has(table, key):
                records.add(table, key, measure())
                print(table, key, records.results[table][key], flush=True)


if __name__ == "__main__":
    main()
