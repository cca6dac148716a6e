"""Theorem 2.4 and corollary 2.5 of Freeman & Bruna at work: `python -m experiments.hidden_layer`.

Networks of m hidden ReLU units trained apart on the data of four units; the path of the theorem is written down between them. How
far its bound lies above the ends, against m, beside the straight line: the corollary says that it vanishes as m grows.
"""

from itertools import pairwise
from pathlib import Path

import plotly.graph_objects as go
import torch
from torch import Tensor

import dss
from experiments.results import Record, Results
from experiments.texts import Curve, Panel, command, drawing, finish, records_of, values_of

WIDTHS, PAIRS = (8, 16, 32, 64, 128), 3
SAMPLES, INPUTS, TEACHER, NOISE = 400, 6, 4, 0.05
STEPS, RATE = 1500, 0.02
PLACES = 21
Layer = tuple[Tensor, Tensor]


def data() -> tuple[Tensor, Tensor]:
    """Inputs with a constant `(SAMPLES, INPUTS + 1)`, and targets."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SAMPLES, INPUTS, generator=generator, dtype=torch.float64)
    w = torch.randn(TEACHER, INPUTS, generator=generator, dtype=torch.float64)
    v = torch.randn(TEACHER, generator=generator, dtype=torch.float64)
    y = torch.relu(x @ w.T) @ v + NOISE * torch.randn(SAMPLES, generator=generator, dtype=torch.float64)
    return torch.cat([x, torch.ones(SAMPLES, 1, dtype=torch.float64)], 1), y


def trained(width: int, seed: int, steps: int) -> Layer:
    """W and v after Adam with a rate falling to 0."""
    x, y = data()
    generator = torch.Generator().manual_seed(seed)
    w = (torch.randn(width, x.shape[1], generator=generator, dtype=torch.float64) / x.shape[1] ** 0.5).requires_grad_()
    v = (torch.randn(width, generator=generator, dtype=torch.float64) / width**0.5).requires_grad_()
    optimizer = torch.optim.Adam([w, v], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        (torch.relu(x @ w.T) @ v - y).square().mean().backward()
        optimizer.step()
        schedule.step()
    return w.detach(), v.detach()


def highest(corners: list[Layer]) -> float:
    """The largest error seen on a polygon."""
    x, y = data()
    places = torch.linspace(0, 1, PLACES, dtype=torch.float64)
    return max(
        (torch.relu(x @ torch.lerp(w, w2, t).T) @ torch.lerp(v, v2, t) - y).square().mean().item()
        for (w, v), (w2, v2) in pairwise(corners)
        for t in places
    )


def pairs_of(width: int, pairs: int, steps: int) -> list[Record]:
    """The theorem's path between networks of seeds 2 i and 2 i + 1."""
    records: list[Record] = []
    for pair in range(pairs):
        ends = [trained(width, 2 * pair + side, steps) for side in (0, 1)]
        found = dss.theory.hidden_layer_path(*data(), ends[0], ends[1], seed=pair)
        records.append({
            "ends": max(found.errors["start"], found.errors["end"]), "bound": found.bound, "epsilon": found.epsilon,
            "path": highest(list(found.corners)), "straight": highest(ends), "oracle_units": found.units,
        })  # fmt: skip
    return records


def run(out: Path, *, widths: tuple[int, ...] = WIDTHS, pairs: int = PAIRS, steps: int = STEPS) -> Results:
    """Everything `out` does not hold yet."""
    settings = {
        "samples": SAMPLES,
        "inputs": INPUTS,
        "teacher": TEACHER,
        "noise": NOISE,
        "pairs": pairs,
        "steps": steps,
        "rate": RATE,
    }
    settings["variance"] = data()[1].var().item()
    return finish(Results(out, settings), {("pairs", m): lambda m=m: pairs_of(m, pairs, steps) for m in widths})


def picture(results: Results) -> go.Figure:
    """How far the bound and the straight line lie above the ends, against m."""
    found = records_of(results, "pairs")
    medians = {
        key: [torch.tensor(values_of(r, key)).median().item() for r in found.values()] for key in ("epsilon", "straight", "ends")
    }
    return drawing(
        [
            Panel("one hidden layer, medians of the mean squared error", "hidden units m", [
                Curve("theorem 2.4's path above its ends", list(found), [max(v, 1e-6) for v in medians["epsilon"]]),
                Curve("straight line", list(found), medians["straight"]),
                Curve("larger end", list(found), medians["ends"]),
            ]),
        ]
    )  # fmt: skip


QUICK = {"widths": (8,), "pairs": 1, "steps": 100}

if __name__ == "__main__":
    command(__doc__, "hidden_layer", run, picture, QUICK)
