"""Linear networks, Freeman & Bruna's proposition 2.2: `python -m experiments.linear`.

100 random pairs of networks of two to four layers whose hidden widths exceed min(in, out): the largest loss on the written-down
polygon, over the larger end, beside that of the straight line. Pairs with a square bottleneck: the exact barrier, the written-down
path, the straight line. Two layers with ridge: the circle.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import plotly.graph_objects as go
import torch
from torch import Tensor

import dss
from experiments.results import Record, Results
from experiments.texts import Curve, Panel, Parts, command, drawing, finish, records_of, values_of

PAIRS, SQUARES, RIDGES = 100, 40, 20
PLACES = 11  # on every piece
SAMPLES, RIDGE = 40, 0.02

Matrices = Sequence[Tensor]


def error(matrices: Matrices, x: Tensor, y: Tensor) -> float:
    """The mean squared error of W_K ... W_1."""
    for matrix in matrices:
        x = x @ matrix.T
    return (x - y).square().mean().item()


def highest(corners: Sequence[Matrices], x: Tensor, y: Tensor, ridge: float = 0.0) -> float:
    """The largest (penalised) error seen on a polygon."""

    def loss(matrices: Matrices) -> float:
        return error(matrices, x, y) + ridge / 2 * sum(w.square().sum().item() for w in matrices)

    places = torch.linspace(0, 1, PLACES, dtype=torch.float64)
    return max(loss([torch.lerp(a, b, t) for a, b in zip(one, other)]) for one, other in pairwise(corners) for t in places)


def length(corners: Sequence[Matrices]) -> float:
    """Normalised."""
    points = torch.stack([torch.cat([w.flatten() for w in corner]) for corner in corners])
    return ((points[1:] - points[:-1]).norm(dim=1).sum() / (points[-1] - points[0]).norm()).item()


def drawn(widths: Sequence[int], generator: torch.Generator) -> list[Tensor]:
    """Gaussian matrices, outputs of order one."""
    return [torch.randn(b, a, generator=generator, dtype=torch.float64) / a**0.5 for a, b in pairwise(widths)]


def data(widths: Sequence[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs, and targets of a random linear map with noise."""
    x = torch.randn(SAMPLES, widths[0], generator=generator, dtype=torch.float64)
    y = x @ torch.randn(widths[0], widths[-1], generator=generator, dtype=torch.float64) / widths[0] ** 0.5
    return x, y + 0.1 * torch.randn(SAMPLES, widths[-1], generator=generator, dtype=torch.float64)


def fitted(matrices: Matrices, x: Tensor, y: Tensor) -> list[Tensor]:
    """The same layers below, the last one at its least squares: an end of low loss."""
    below = x
    for matrix in matrices[:-1]:
        below = below @ matrix.T
    return [*matrices[:-1], torch.linalg.lstsq(below, y, driver="gelsd").solution.T]


def wide(pair: int) -> Record:
    """One pair whose hidden widths all exceed min(in, out)."""
    generator = torch.Generator().manual_seed(pair)
    layers, first, last = (low + int(torch.randint(n, (), generator=generator)) for low, n in ((2, 3), (1, 10), (1, 10)))
    hidden = [min(first, last) + 1 + int(torch.randint(40, (), generator=generator)) for _ in range(layers - 1)]
    widths = [first, *hidden, last]
    x, y = data(widths, generator)
    ends = [fitted(drawn(widths, generator), x, y) for _ in range(2)]
    if pair % 3 == 0:
        ends[1][0][-1] = ends[1][0][0]  # a row twice: the products stay, the ranks fall
    found = dss.theory.linear_path(*ends, data=(x, y))
    larger = max(error(end, x, y) for end in ends)
    return {
        "widths": widths, "ends": larger, "excess": highest(found.corners, x, y) / larger - 1, "straight": highest(ends, x, y) / larger - 1,
        "pieces": len(found.corners) - 1, "length": length(found.corners),
    }  # fmt: skip


def square(pair: int) -> Record:
    """One pair r-r-q with a square bottleneck: the barrier, the path's maximum, the straight line's."""
    generator = torch.Generator().manual_seed(1000 + pair)
    r = 1 + pair % 4
    widths = [r, r, r + pair % 3]
    x, y = data(widths, generator)
    ends = [fitted(drawn(widths, generator), x, y) for _ in range(2)]
    found = dss.theory.linear_path(*ends, data=(x, y))
    barrier = dss.theory.linear_barrier(x, y, *ends)
    larger = max(error(end, x, y) for end in ends)
    return {
        "rank": r, "ends": larger, "barrier": barrier, "path": highest(found.corners, x, y), "straight": highest(ends, x, y),
        "opposite": (torch.linalg.det(ends[0][0]) * torch.linalg.det(ends[1][0])).item() < 0,
    }  # fmt: skip


def ridged(pair: int) -> Record:
    """One pair of two layers with ridge, balanced minima among the ends: the circle beside its bound."""
    generator = torch.Generator().manual_seed(2000 + pair)
    widths = [4, 12 + pair % 5, 3]
    x, y = data(widths, generator)
    ends = [drawn(widths, generator) for _ in range(2)]
    found = dss.theory.ridge_path(x, y, *ends, ridge=RIDGE, arcs=16)
    larger = max(highest([end, end], x, y, RIDGE) for end in ends)
    assert found.bound is not None
    return {
        "ends": larger,
        "bound": found.bound,
        "path": highest(found.corners, x, y, RIDGE),
        "straight": highest(ends, x, y, RIDGE),
    }


def run(out: Path, *, pairs: int = PAIRS, squares: int = SQUARES, ridges: int = RIDGES) -> Results:
    """Everything `out` does not hold yet."""
    parts: Parts = {
        ("wide", pairs): lambda: [wide(pair) for pair in range(pairs)],
        ("square bottleneck", squares): lambda: [square(pair) for pair in range(squares)],
        ("ridge", ridges): lambda: [ridged(pair) for pair in range(ridges)],
    }
    return finish(Results(out, {"samples": SAMPLES, "places": PLACES, "ridge": RIDGE}), parts)


def _all(results: Results, name: str) -> list[Record]:
    return [record for records in records_of(results, name).values() for record in records]


def picture(results: Results) -> go.Figure:
    """Excesses of polygons and straight lines, and what square bottlenecks cost."""
    found, corners = _all(results, "wide"), [r for r in _all(results, "square bottleneck") if r["opposite"]]
    order, floor = [float(i + 1) for i in range(len(found))], 1e-17
    exact = values_of(corners, "barrier")
    ratios = {key: [v / barrier for v, barrier in zip(values_of(corners, key), exact)] for key in ("path", "straight")}
    return drawing(
        [
            Panel("wide: largest loss over the larger end, less 1", "pairs, sorted", [
                Curve("polygon", order, sorted(max(v, floor) for v in values_of(found, "excess"))),
                Curve("straight line", order, sorted(max(v, floor) for v in values_of(found, "straight"))),
            ], log_x=False),
            Panel("square bottleneck, opposite signs: largest loss / barrier", "exact barrier", [
                Curve("written-down path", exact, ratios["path"], loose=True),
                Curve("straight line", exact, ratios["straight"], loose=True),
            ]),
        ]
    )  # fmt: skip


QUICK = {"pairs": 6, "squares": 6, "ridges": 2}

if __name__ == "__main__":
    command(__doc__, "linear", run, picture, QUICK)
