"""The linear law of wide networks, after Golikov's slides (Du et al. 2018): `python -m experiments.gradient_flow`.

20 unit vectors in 10 dimensions with targets in [-1, 1]; networks of m hidden ReLU units descend by small steps. Recorded: the
least eigenvalue of H at the start and the lowest on the way, over lambda_0 (lemmas 3.1 to 3.4); the largest ratio of |u - y|^2 to
the theorem's law at any time; the largest movement of a row, and its slope against m.
"""

from pathlib import Path

import plotly.graph_objects as go
import torch
from torch import Tensor

import dss
from experiments.results import Record, Results
from experiments.texts import Curve, Panel, Parts, command, drawing, finish, records_of, slope, values_of

WIDTHS = (50, 200, 800, 3200, 12800)
SAMPLES, INPUTS = 20, 10
SEEDS = 5
STEP, STEPS = 0.2, 1000
FLOOR = 1e-12  # of the figure
DESCENT_STEP = 0.05  # 1 / SAMPLES: for the law of discrete descent


def problem(seed: int) -> tuple[Tensor, Tensor]:
    """Unit vectors `(SAMPLES, INPUTS)` and targets `(SAMPLES,)`."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(SAMPLES, INPUTS, generator=generator, dtype=torch.float64)
    y = torch.rand(SAMPLES, generator=generator, dtype=torch.float64) * 2 - 1
    return x / x.norm(dim=1, keepdim=True), y


def flows(width: int, seeds: int, step: float, steps: int) -> list[Record]:
    """One record for each seed; the first keeps its curve."""
    records: list[Record] = []
    for seed in range(seeds):
        flow = dss.theory.gradient_flow(*problem(seed), width, step=step, steps=steps, seed=seed)
        record: Record = {
            "eigenvalue_at_start": flow.eigenvalues[0].item() / flow.pace,
            "lowest_eigenvalue": flow.eigenvalues.min().item() / flow.pace,
            "ratio_to_law": (flow.errors / flow.law).max().item(),
            "ratio_to_discrete_law": (flow.errors / flow.discrete_law).max().item(),
            "last_error": flow.errors[-1].item(),
            "movement": flow.movements.max().item(),
            "flips": flow.flips.max().item(),
            "pace": flow.pace,
        }
        if seed == 0:
            record |= {"times": flow.times.tolist(), "errors": flow.errors.tolist(), "law": flow.law.tolist()}
        records.append(record)
    return records


def run(out: Path, *, widths: tuple[int, ...] = WIDTHS, seeds: int = SEEDS, steps: int = STEPS) -> Results:
    """Everything `out` does not hold yet."""
    settings = {"samples": SAMPLES, "inputs": INPUTS, "seeds": seeds, "steps": steps, "step": STEP, "descent_step": DESCENT_STEP}
    parts: Parts = {
        **{("flow", m): lambda m=m: flows(m, seeds, STEP, steps) for m in widths},
        **{("descent", m): lambda m=m: flows(m, 1, DESCENT_STEP, 4 * steps) for m in widths[:-1]},
    }
    return finish(Results(out, settings), parts)


def movement_slope(results: Results) -> float:
    """Slope of the largest movement against m, medians over seeds, logarithmic."""
    found = records_of(results, "flow")
    return slope(list(found), [torch.tensor(values_of(r, "movement")).median().item() for r in found.values()])


def picture(results: Results) -> go.Figure:
    """Errors with the law, and movements."""
    found = records_of(results, "flow")
    curves = []
    for m, records in found.items():
        times, errors = records[0]["times"], records[0]["errors"]
        shown = [(t, e) for t, e in zip(times, errors) if e > FLOOR]  # type: ignore[arg-type]
        curves.append(Curve(f"m = {m:g}", [t for t, _ in shown], [e for _, e in shown]))
    first = records_of(results, "flow")[max(found)][0]
    law = Curve("exp(-λ₀ t) |u(0) - y|²", first["times"], first["law"], law=True)  # type: ignore[arg-type]
    medians = [torch.tensor(values_of(r, "movement")).median().item() for r in found.values()]
    widths = list(found)
    return drawing(
        [
            Panel("|u(t) - y|²", "time", [*curves, law], log_x=False),
            Panel("largest movement of a row, median", "hidden units m", [
                Curve("measured", widths, medians),
                Curve("slope -1/2", widths, [medians[0] * (m / widths[0]) ** -0.5 for m in widths], law=True),
            ]),
        ]
    )  # fmt: skip


QUICK = {"widths": (20, 200), "seeds": 2, "steps": 50}

if __name__ == "__main__":
    command(__doc__, "gradient_flow", run, picture, QUICK)
