"""What `experiments.headlines` measures: the field's known results, each on small networks and the digits.

Networks are 64-w-w-10 with ReLU; the loss that is bounded is the cross-entropy on the training data. A line or a path has its
largest training loss proved from both sides, rounding included; what is an error rate, or a mean, is computed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from statistics import mean, median

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import dss
from benchmarks.records import Record
from models.mlp import MLP

# Of a bracket, as a share of the largest loss.
TOLERANCE = 0.01
# How far above the worse end a written path may lie: its bound is what is asked for.
HIGH = 10.0
Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Size:
    """How large everything is; `QUICK` is for a test.

    Attributes:
        samples: training digits.
        steps: of Adam, for a network; a fine-tuned one gets half of them.
        widths: of the networks that are compared by width; the middle one is everybody else's.
        pairs: of each comparison.
        shared: steps before two copies part.
        models: of the spanning tree, and of the soup.
        repeats: of each finder, with other seeds.
    """

    samples: int = 1200
    steps: int = 600
    widths: tuple[int, ...] = (16, 64, 256)
    pairs: int = 3
    shared: tuple[int, ...] = (0, 20, 100, 300)
    models: int = 10
    soup: int = 5
    repeats: int = 4
    seconds: float = 120.0


FULL = Size()
QUICK = Size(samples=100, steps=60, widths=(4, 6, 8), pairs=1, shared=(0, 30), models=3, soup=2, repeats=2, seconds=10.0)


class Bench:
    """The digits, networks of one width on them, and what is asked of paths between them."""

    def __init__(self, size: Size, width: int):
        self.size, self.width = size, width
        task = dss.load_task("digits")
        (x, y), self.test = task.train, task.judge
        self.data: Pair = x[: size.samples], y[: size.samples]

    def model(self) -> nn.Module:
        return MLP(64, 10, width=self.width, depth=3)

    @cached_property
    def loss(self) -> dss.NetworkObjective:
        """The training loss."""
        return dss.NetworkObjective(self.model(), cross_entropy, self.data, batch_size=128)

    @cached_property
    def test_error(self) -> dss.NetworkObjective:
        """The error on the test digits."""
        return dss.NetworkObjective(self.model(), dss.error_rate, self.test)

    def trained(self, start: int | Tensor, order: int, steps: int, data: Pair | None = None, rate: float = 1e-3) -> Tensor:
        """A point after that many steps of Adam, from an initial seed or a point, over data in the order of a seed."""
        model, (x, y) = self._started(start), self.data if data is None else data
        optimizer, draws = torch.optim.Adam(model.parameters(), lr=rate), torch.Generator().manual_seed(order)
        for _ in range(steps):
            index = torch.randint(len(x), (min(128, len(x)),), generator=draws)
            optimizer.zero_grad()
            cross_entropy(model(x[index]), y[index]).backward()
            optimizer.step()
        return self.loss.space.flatten(model.state_dict())

    def _started(self, start: int | Tensor) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(start if isinstance(start, int) else 0)
            model = self.model()
        if isinstance(start, Tensor):
            model.load_state_dict(self.loss.space.unflatten(start))
        return model

    def ends(self, pair: int) -> tuple[Tensor, Tensor]:
        """Two networks trained apart."""
        return self.trained(2 * pair, 2 * pair, self.size.steps), self.trained(2 * pair + 1, 2 * pair + 1, self.size.steps)

    def largest(self, path: dss.Path) -> Record:
        """The largest training loss of a path, both sides proved, and that of its worse end."""
        found = dss.bracket(self.loss, path, tolerance=TOLERANCE, limits=dss.Limits(seconds=self.size.seconds))
        worse = self.loss(torch.stack([path.rows[0], path.rows[-1]])).max().item()
        proved = found.verdict is dss.Verdict.BRACKETED
        return {"lower": found.lower, "upper": found.upper, "worse end": worse, "proved": proved, "cells": found.cells}

    def line(self, a: Tensor, b: Tensor) -> Record:
        """The same of a straight line, and the rise of the test error on it (51 points)."""
        path = dss.Path.straight(a, b)
        errors = along(self.test_error, path, 51)
        return {**self.largest(path), "test error rise": max(errors) - max(errors[0], errors[-1])}


def along(objective: dss.Objective, path: dss.Path, places: int) -> list[float]:
    """Losses at equal distances along a path, both ends included."""
    with torch.no_grad():
        return torch.cat([objective(point[None]) for point in path.resample(places).rows]).tolist()


def rises(lines: Sequence[Record]) -> Record:
    """The median over pairs of how far a line's largest loss, at most, lies above its worse end."""
    return {"rise": median(line["upper"] - line["worse end"] for line in lines), "pairs": list(lines)}


def by_width(size: Size, width: int) -> Record:
    """Lines between networks trained apart, and to the copy with its units in the closest order."""
    bench = Bench(size, width)
    pairs = [bench.ends(pair) for pair in range(size.pairs)]
    ordered = [(a, dss.align(bench.loss, a, b).point) for a, b in pairs]
    return {"trained": rises([bench.line(*ends) for ends in pairs]), "aligned": rises([bench.line(*ends) for ends in ordered])}


def parted(size: Size, shared: int) -> Record:
    """Two copies of one network that was trained for a while, and then on the same data in two orders."""
    bench = Bench(size, size.widths[1])
    lines = []
    for pair in range(size.pairs):
        start = bench.trained(pair, 100 + pair, shared)
        lines.append(bench.line(*(bench.trained(start, 200 + 2 * pair + k, size.steps - shared) for k in range(2))))
    return rises(lines)


def tuned(size: Size, from_one: bool) -> Record:
    """Two networks trained on the digits in two orders: from one that was trained on them upside down, or from scratch."""
    bench = Bench(size, size.widths[1])
    lines = []
    for pair in range(size.pairs):
        starts: Sequence[int | Tensor] = (2 * pair, 2 * pair + 1)
        if from_one:
            x, y = bench.data
            starts = [bench.trained(pair, 300 + pair, size.steps, (x.flip(-2), y))] * 2
        lines.append(bench.line(*(bench.trained(s, 400 + 2 * pair + k, size.steps // 2) for k, s in enumerate(starts))))
    return rises(lines)


CURVES: Mapping[str, Callable[[], dss.Finder]] = {
    "straight line": dss.StraightLine,
    "Bezier curve": partial(dss.BezierCurve, limits=dss.Limits(rounds=60)),
    "polygonal chain": partial(dss.PolygonalChain, limits=dss.Limits(rounds=60)),
    "greedy string": dss.GreedyString,
}


def curve(size: Size, name: str) -> Record:
    """The extremes of training loss and test error along one curve between two networks."""
    bench = Bench(size, size.widths[1])
    a, b = bench.ends(0)
    path = joined(bench, a, b, CURVES[name](), seed=0).path
    losses, errors = along(bench.loss, path, 61), along(bench.test_error, path, 61)
    return {
        "train loss": [min(losses), max(losses)], "test error": [min(errors), max(errors)], "largest": bench.largest(path),
        "beads": path.intermediate_beads, "length": path.normalized_length,
    }  # fmt: skip


def joined(bench: Bench, a: Tensor, b: Tensor, finder: dss.Finder, seed: int) -> dss.Connection:
    """A search at 1.1 times the worse end's loss, without a proof."""
    level = 1.1 * bench.loss(torch.stack([a, b])).max().item()
    return dss.connect(bench.loss, a, b, threshold=level, finder=finder, seed=seed, prove="never")


def spanning_tree(size: Size) -> Record:
    """Networks trained apart, and the saddles by which their tree joins them."""
    bench = Bench(size, size.widths[1])
    points = torch.stack([bench.trained(seed, seed, size.steps) for seed in range(size.models)])
    tree = dss.merge_tree(bench.loss, points)
    heights = [merge.height for merge in tree.merges]
    return {
        "minima": tree.births.tolist(), "saddles": heights, "mean minimum": tree.births.mean().item(), "mean saddle": mean(heights),
        "proved": all(merge.proven for merge in tree.merges), "searches": len(tree.searches),
    }  # fmt: skip


def dropped(size: Size, width: int) -> Record:
    """How much the loss moves when half of the units of the upper layers are dropped; and the path that theory makes of that.

    It is written down, from halves of the units that stand for the others (`dss.ConvexPath`); its corners' losses bound its loss.
    """
    bench, moved, risen = Bench(size, width), [], []
    for pair in range(size.pairs):
        ends = bench.ends(pair)
        moved += [dss.theory.dropout_stability(bench.loss, end, seed=pair) for end in ends]
        worse = bench.loss(torch.stack(ends)).max().item()
        written = dss.connect(bench.loss, *ends, threshold=worse + HIGH, finder=dss.ConvexPath(), prove="always").certificate
        risen.append(None if written.upper is None else written.upper - worse)
    return {"change": [median(change) for change in torch.stack(moved).T.tolist()], "written path": risen}


def soup(size: Size) -> Record:
    """Copies of one network, fine-tuned at several rates: the best, the mean of all, and the greedy soup, by test error.

    Soups are chosen on one half of the test digits and looked at on the other.
    """
    bench = Bench(size, size.widths[1])
    x, y = bench.data
    start = bench.trained(0, 500, size.steps, (x.flip(-2), y))
    tuned = [bench.trained(start, 600 + k, 2 * size.steps, rate=5e-4 * 2 ** (k % 3)) for k in range(size.soup)]
    (x, y), half = bench.test, len(bench.test[0]) // 2
    chosen_on, looked_at = (dss.NetworkObjective(bench.model(), loss, (x[part], y[part])) for loss, part in (
        (cross_entropy, slice(half)), (dss.error_rate, slice(half, None))))  # fmt: skip
    found = dss.check(bench.loss, tuned, judge=chosen_on, metrics={"error": looked_at}, pairs=False)
    best = int(found.losses.argmin())
    lines = [bench.line(a, b) for i, a in enumerate(tuned) for b in tuned[:i]]
    return {
        "errors": found.metrics["error"].tolist(), "best": found.metrics["error"][best].item(),
        "uniform": found.uniform.metrics["error"], "greedy": found.greedy.metrics["error"], "members": len(found.greedy.members),
        "lines": rises(lines),
    }  # fmt: skip


FINDERS = ("greedy", "bend", "geodesic", "band", "curve", "chain", "constrained")


def repeated(size: Size, name: str) -> Record:
    """One pair, one finder, several seeds: the largest losses of its paths, proved."""
    bench = Bench(size, size.widths[1])
    a, b = bench.ends(0)
    runs = []
    for seed in range(size.repeats):
        found = joined(bench, a, b, dss.FINDERS[name](), seed)
        runs.append({**bench.largest(found.path), "connected": found.connected, "gradient steps": found.gradient_steps})
    uppers = [run["upper"] for run in runs]
    return {"runs": runs, "least": min(uppers), "most": max(uppers), "connected": sum(run["connected"] for run in runs)}


def rows(size: Size) -> dict[str, dict[str, Callable[[], Record]]]:
    """Everything that is measured, by table and row."""
    return {
        "width": {str(width): partial(by_width, size, width) for width in size.widths},
        "orders": {str(shared): partial(parted, size, shared) for shared in size.shared},
        "tuned": {"fine-tuned from one network": partial(tuned, size, True), "trained from scratch": partial(tuned, size, False)},
        "curves": {name: partial(curve, size, name) for name in CURVES},
        "tree": {str(size.models): partial(spanning_tree, size)},
        "dropout": {str(width): partial(dropped, size, width) for width in size.widths},
        "soup": {str(size.soup): partial(soup, size)},
        "repeats": {name: partial(repeated, size, name) for name in FINDERS},
    }
