"""How far proofs of whole paths get: cells, seconds and the width of the bracket, per architecture and depth.

    python -m benchmarks.proof [NAME ...] [--seconds 60] [--factor 1.02] [--tolerance 1e-3] [--samples 500] [--threads 1] [--out FILE]

Two networks are trained and joined, and the path's loss on the whole test set is proved to stay below `factor` times its
largest value on a grid of 41 points per segment, which is timed too. The paper's networks run when they are named: they
are joined by a straight line, and their cells take minutes. `--out benchmarks/proof.json` keeps the rows from which `python -m benchmarks.tables` draws docs/proof.md.
"""

import argparse
import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, l1_loss, mse_loss

import dss
from benchmarks.records import Record, Records, as_table
from dss import Bracket, DigitsNet, PaperMNISTNet, PolynomialNet, prove
from experiments import triangle
from experiments.image_data import photo_patches
from experiments.text_data import penn_treebank
from models.mlp import MLP
from models.paper import CIFAR10Net, PTBNet, TriangleNet
from models.recurrent import LanguageModel
from models.resnet import ResNet
from models.transformer import RowTransformer

FILE = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).parent.parent / "docs" / "proof.md"
TABLE = "proofs"
GRID = 41
LINES = 16


Split = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Case:
    """An architecture, its data and how long an end is trained.

    Paths are the beads that `path` gives, or greedy strings sought at `threshold`, or straight lines if that is None.
    """

    make: Callable[[], nn.Module]
    data: Callable[[], Split]
    threshold: float | None
    steps: int = 250
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    learning_rate: float = 3e-3
    path: Callable[[], Tensor] | None = None
    batch: int = 128


def letters() -> Split:
    """Lines of a rule-made text over 12 letters: each letter follows from the two before it, with some noise."""
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(12, (600, LINES + 1), generator=generator)
    for i in range(2, LINES + 1):
        follow = (text[:, i - 1] * 5 + text[:, i - 2] * 3 + 1) % 12
        text[:, i] = torch.where(torch.rand(600, generator=generator) < 0.9, follow, text[:, i])
    return (text[:400, :-1], text[:400, 1:]), (text[400:, :-1], text[400:, 1:])


def data_of(task: str) -> Callable[[], Split]:
    """Training and judging data of a built-in task."""

    def load() -> Split:
        found = dss.load_task(task)
        return found.train, found.judge

    return load


digits, quadratic, cubic, fashion = map(data_of, ("digits", "quadratics", "cubics", "fashion"))


CASES = {
    "1-4-4-1": Case(lambda: PolynomialNet(bias=True, bounded=True), quadratic, 0.02, 2000, l1_loss, 1e-2),
    "digits-conv": Case(DigitsNet, digits, 0.5),
    **{f"mlp-{d}": Case(lambda d=d: MLP(64, 10, depth=d), digits, 0.5, 250 + 50 * d) for d in (2, 4, 6, 8, 12)},
    "mlp-6-gelu": Case(lambda: MLP(64, 10, depth=6, activation=nn.GELU), digits, 0.5),
    "mlp-6-tanh": Case(lambda: MLP(64, 10, depth=6, activation=nn.Tanh), digits, 0.5),
    "lstm": Case(lambda: LanguageModel(12, width=16), letters, 2.0, 400, learning_rate=1e-2),
    "gru": Case(lambda: LanguageModel(12, width=16, cell=nn.GRU), letters, 2.0, 400, learning_rate=1e-2),
    "transformer": Case(lambda: RowTransformer(), digits, 0.5),
    "resnet-8": Case(lambda: ResNet(blocks=1, width=8, norm=False), digits, 0.5),
    "resnet-20": Case(lambda: ResNet(blocks=3, width=8, norm=False), digits, 0.7, 400),
}

NAMES = {
    "1-4-4-1": "1-4-4-1",
    "digits-conv": "conv net with ReLU and max-pool",
    **{f"mlp-{depth}": f"ReLU MLP of width 64, depth {depth}" for depth in (2, 4, 6, 8, 12)},
    "mlp-6-gelu": "GELU MLP, depth 6",
    "mlp-6-tanh": "tanh MLP, depth 6",
    "lstm": "LSTM over 16 steps",
    "gru": "GRU over 16 steps",
    "transformer": "one-block transformer",
    "resnet-8": "ResNet-8, 8 channels",
    "resnet-20": "ResNet-20, 8 channels",
}


def photos() -> Split:
    """Patches of photos in place of CIFAR-10: 20,000 and 2,560."""
    found = photo_patches(20_000, 2_560)
    return found.train, found.judge


def text() -> Split:
    """Stretches of 20 words of Penn Treebank's stand-in."""
    found = penn_treebank(None)
    return found.train, found.judge


PAPER = {
    "quadratics": Case(lambda: PolynomialNet(bias=False, bounded=True), quadratic, 0.02, 2000, l1_loss, 1e-2),
    "cubics": Case(lambda: PolynomialNet(bias=True, bounded=False), cubic, 0.03, 4000, l1_loss, 1e-2),
    "triangle": Case(lambda: TriangleNet().double(), lambda: ((triangle.X, triangle.Y),) * 2, None, 0, mse_loss,
                     path=lambda: triangle.pinched_path(0.01, 20).beads),
    "fashion": Case(PaperMNISTNet, fashion, None, 100, learning_rate=5e-4),
    "photos": Case(CIFAR10Net, photos, None, 100, learning_rate=1e-3),
    "text": Case(PTBNet, text, None, 100, learning_rate=2e-3, batch=20),
}  # fmt: skip


def trained(case: Case, seed: int) -> nn.Module:
    """One end: Adam on minibatches."""
    torch.manual_seed(seed)
    model, (x, y) = case.make(), case.data()[0]
    optimizer = torch.optim.Adam(model.parameters(), case.learning_rate)
    for _ in range(case.steps):
        index = torch.randint(len(x), (case.batch,))
        loss = case.loss(model(x[index]), y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def found(case: Case, samples: int | None, seeds: tuple[int, int] = (0, 1)) -> tuple[dss.NetworkObjective, Tensor]:
    """The judge, on its first `samples` or all, and the beads of a path between networks trained from two seeds."""
    train, test = case.data()
    judge = dss.NetworkObjective(case.make(), case.loss, tuple(part[:samples] for part in test))
    if case.path is not None:
        return judge, case.path()
    models = [trained(case, seed) for seed in seeds]
    ends = torch.stack([judge.space.flatten(model.state_dict()) for model in models])
    if case.threshold is None:
        return judge, ends
    objective = dss.NetworkObjective(models[0], case.loss, train)
    top = max(case.threshold, 1.1 * objective(ends).max().item())
    finder = dss.GreedyString(limits=dss.Limits(rounds=4, seconds=120))
    return judge, dss.connect(objective, *ends, threshold=top, finder=finder, prove="never").path.beads


def sampled(judge: dss.NetworkObjective, beads: Tensor) -> tuple[float, float]:
    """The largest loss on the grid, and the seconds it took."""
    began, t = time.perf_counter(), torch.linspace(0, 1, GRID, dtype=beads.dtype)
    with torch.no_grad():
        most = max(judge(torch.lerp(a, b, t[:, None])).max().item() for a, b in itertools.pairwise(beads))
    return most, time.perf_counter() - began


def last_bracket(judge: dss.NetworkObjective, beads: Tensor, **options) -> tuple[Bracket, float]:
    """Where a proof ends, and its seconds."""
    began = time.perf_counter()
    *_, bracket = prove(judge, beads, **options)
    return bracket, time.perf_counter() - began


def share(bracket: Bracket, goal: float) -> float:
    """Of the path, counted in segments, how much is proved to lie at or below the goal."""
    lengths = bracket.bounds[:, 2] - bracket.bounds[:, 1]
    return (lengths[bracket.bounds[:, 3] <= goal].sum() / lengths.sum()).item()


COLUMNS = {
    "net": "12s", "params": "8d", "samples": "8d", "segments": "8d", "sampled": "8.4f", "grid s": "8.2f", "verdict": "10s",
    "proved": "7.0%", "upper": "9.4g", "width": "9.2g", "cells": "6d", "leaves": "6d", "proof s": "8.2f",
}  # fmt: skip


def measured(name: str, options: argparse.Namespace) -> Record:
    """One row of the table."""
    judge, beads = found((CASES | PAPER)[name], options.samples)
    most, grid = sampled(judge, beads)
    top = options.factor * most if options.tolerance is None else (1 + options.tolerance) * most
    goal = {"threshold": top} if options.tolerance is None else {"tolerance": options.tolerance}
    began = time.process_time()
    bracket, _ = last_bracket(judge, beads, max_seconds=options.seconds, **goal)
    took = time.process_time() - began
    width = bracket.width / most if math.isfinite(bracket.upper) else math.inf
    values = (name, beads.shape[1], judge.samples, len(beads) - 1, most, grid, bracket.verdict.name, share(bracket, top),
              bracket.upper, width, bracket.cells, len(bracket.bounds), took)  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def line(row: Record) -> str:
    """It as text."""
    return " ".join(format(row[column], form) for column, form in COLUMNS.items())


def pages_of(results: Mapping[str, Mapping[str, Record]]) -> dict[str, str]:
    """The table of docs/proof.md."""
    head = ("net", "parameters", "samples", "segments", "grid, s", "cells", "proof, s", "outcome")
    rows = [
        (NAMES[name], row["params"], row["samples"], row["segments"], f"{row['grid s']:.2g}", row["cells"],
         f"{row['proof s']:.2g}" if row["proof s"] < 10 else f"{row['proof s']:.0f}",
         "proved" if row["verdict"] == dss.Verdict.PROVEN.name else f"{row['proved']:.0%} of the path proved")
        for name, row in results[TABLE].items()
    ]  # fmt: skip
    return {TABLE: as_table(head, rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(CASES), metavar="NAME", help=f"of {', '.join(CASES | PAPER)}")
    parser.add_argument("--seconds", type=float, default=60.0, help="limit of one proof")
    parser.add_argument("--factor", type=float, default=1.02, help="the threshold over the largest loss of the grid")
    parser.add_argument("--tolerance", type=float, help="bracket the largest loss instead")
    parser.add_argument("--samples", type=int, help="of the test set, the first ones; all by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="keep the rows in this JSON file; what is there is not measured again")
    options = parser.parse_args()
    for name in options.names:
        if name not in CASES | PAPER:
            parser.error(f"no net is called {name!r}; there are {', '.join(CASES | PAPER)}")
    torch.set_num_threads(options.threads)
    dss.keep_freed_memory()
    widths = (int(form.lstrip("<").split(".")[0].rstrip("sdgf%")) for form in COLUMNS.values())
    print(" ".join(f"{title:{'<' if title == 'net' else '>'}{width}s}" for title, width in zip(COLUMNS, widths)))
    records = None if options.out is None else Records(options.out)
    for name in options.names:
        row = records.results.get(TABLE, {}).get(name) if records is not None else None
        if row is None:
            row = measured(name, options)
            if records is not None:
                records.add(TABLE, name, row)
        print(line(row), flush=True)


if __name__ == "__main__":
    main()
