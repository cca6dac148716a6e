"""Students wider than their teacher, after Lee's slides: `python -m experiments.students`.

The figure "Practical Landscape Design" (Livni et al. 2014): data of a teacher with 50 hidden ReLU units; students of 50, 100 and
200 trained alike. Beside it quadratic activations: descent from random starts against the convex optimum (Du & Lee 2018).
"""

from pathlib import Path

import plotly.graph_objects as go
import torch
from torch import Tensor

import dss
from experiments.results import Record, Results
from experiments.texts import Curve, Panel, Parts, command, drawing, finish, records_of, values_of

TEACHER, INPUTS, SAMPLES = 50, 30, 1500
STUDENTS, SEEDS = (50, 100, 200), 4
STEPS, RATE = 1500, 5e-3
# Quadratic activation: m (m + 1) / 2 > n from m = 8, m >= sqrt(2 n) from 8, m >= d from 10.
QUADRATIC_UNITS, QUADRATIC_STARTS = (1, 2, 4, 6, 8, 10, 16), 20
QUADRATIC_SAMPLES, QUADRATIC_INPUTS, PENALTY = 30, 10, 0.02
ITERATIONS = 4000  # of L-BFGS
CLOSE = 1e-4  # relative to the optimum


def lesson(samples: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs and a teacher's outputs, as many for training as for the test."""
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(TEACHER, INPUTS, generator=generator) / INPUTS**0.5
    v = torch.randn(TEACHER, generator=generator) / TEACHER**0.5
    x = torch.randn(2 * samples, INPUTS, generator=generator)
    y = torch.relu(x @ w.T) @ v
    return x[:samples], y[:samples], x[samples:], y[samples:]


def students(width: int, seeds: int, samples: int, steps: int) -> list[Record]:
    """Training and test losses of students over the variance of the targets; Adam, rate falling to 0, all students at once."""
    x, y, x_test, y_test = lesson(samples)
    generator = torch.Generator().manual_seed(width)
    w = (torch.randn(seeds, width, INPUTS, generator=generator) / INPUTS**0.5).requires_grad_()
    v = (torch.randn(seeds, width, generator=generator) / width**0.5).requires_grad_()
    optimizer = torch.optim.Adam([w, v], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def errors(inputs: Tensor, targets: Tensor) -> Tensor:
        outputs = (torch.relu(inputs @ w.transpose(1, 2)) @ v[:, :, None])[..., 0]
        return (outputs - targets).square().mean(1)

    curve = []
    for step in range(steps):
        optimizer.zero_grad()
        losses = errors(x, y)
        losses.sum().backward()
        optimizer.step()
        schedule.step()
        if step % max(1, steps // 50) == 0:
            curve.append([step + 1, losses.median().item() / y.var().item()])
    with torch.no_grad():
        train, test = errors(x, y) / y.var(), errors(x_test, y_test) / y_test.var()
    return [
        {"train": a.item(), "test": b.item(), **({"curve": curve} if i == 0 else {})} for i, (a, b) in enumerate(zip(train, test))
    ]


def quadratics(units: int, starts: int, iterations: int) -> list[Record]:
    """Where descent ends for quadratic activations, and the convex optimum."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(QUADRATIC_SAMPLES, QUADRATIC_INPUTS, generator=generator, dtype=torch.float64)
    y = (x @ torch.randn(QUADRATIC_INPUTS, 3, generator=generator, dtype=torch.float64)).square().sum(1)
    y = y / y.std() + 0.3 * torch.randn(QUADRATIC_SAMPLES, generator=generator, dtype=torch.float64)
    best = dss.theory.quadratic_optimum(x, y, PENALTY, tolerance=1e-8)
    ends = []
    for _ in range(starts):
        w = torch.randn(units, QUADRATIC_INPUTS, generator=generator, dtype=torch.float64).requires_grad_()
        optimizer = torch.optim.LBFGS(
            [w], max_iter=iterations, line_search_fn="strong_wolfe", tolerance_grad=1e-10, tolerance_change=1e-15
        )

        def closure(w: Tensor = w, optimizer: torch.optim.Optimizer = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = dss.theory.quadratic_loss(x, y, w, PENALTY)
            loss.backward()
            return loss

        optimizer.step(closure)
        ends.append(dss.theory.quadratic_loss(x, y, w.detach(), PENALTY).item())
    reached = sum(end <= best.value * (1 + CLOSE) for end in ends)
    return [
        {
            "optimum": best.value,
            "lower": best.lower,
            "rank": _rank(best.matrix),
            "reached": reached,
            "starts": starts,
            "ends": ends,
        }
    ]


def _rank(matrix: Tensor) -> int:
    values = torch.linalg.eigvalsh(matrix)
    return int((values > 1e-6 * values.max()).sum())


def run(
    out: Path, *, widths: tuple[int, ...] = STUDENTS, seeds: int = SEEDS, samples: int = SAMPLES, steps: int = STEPS,
    units: tuple[int, ...] = QUADRATIC_UNITS, starts: int = QUADRATIC_STARTS, iterations: int = ITERATIONS,
) -> Results:  # fmt: skip
    """Everything `out` does not hold yet."""
    settings = {"teacher": TEACHER, "inputs": INPUTS, "samples": samples, "seeds": seeds, "steps": steps, "rate": RATE}
    settings |= {"penalty": PENALTY, "starts": starts, "iterations": iterations}
    parts: Parts = {
        **{("students", k): lambda k=k: students(k, seeds, samples, steps) for k in widths},
        **{("quadratic activation", m): lambda m=m: quadratics(m, starts, iterations) for m in units},
    }
    return finish(Results(out, settings), parts)


def picture(results: Results) -> go.Figure:
    """Curves of training, and how often descent reached the convex optimum."""
    curves = [Curve(f"{k:g} units", *zip(*r[0]["curve"])) for k, r in records_of(results, "students").items()]  # type: ignore[misc]
    found = records_of(results, "quadratic activation")
    share = [values_of(r, "reached")[0] / values_of(r, "starts")[0] for r in found.values()]
    return drawing(
        [
            Panel("students of a teacher with 50 units, relative training loss", "steps", curves, log_x=False),
            Panel("quadratic activation: starts that end at the convex optimum", "hidden units m",
                  [Curve("share of starts", list(found), share)], log_x=False, log_y=False),
        ]
    )  # fmt: skip


QUICK = {"widths": (20, 100), "seeds": 2, "samples": 200, "steps": 200, "units": (1, 10), "starts": 2, "iterations": 500}

if __name__ == "__main__":
    command(__doc__, "students", run, picture, QUICK)
