"""Normalised margins along training, against the width, and along a path, after Lee's slides: `python -m experiments.margins`.

Bias-free ReLU networks 64-m-10 on scikit-learn's digits, full-batch descent on the cross-entropy with weight decay. The slides (Wei,
Lee, Liu & Ma 2018): with little decay the margin tends to the largest there is, which grows with the size. New here: the margin along a
low-loss path between two such networks.
"""

from collections.abc import Callable
from pathlib import Path

import plotly.graph_objects as go
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import dss
from experiments.results import Record, Results
from experiments.texts import Curve, Panel, Parts, command, drawing, finish, records_of, values_of

WIDTHS, SEEDS = (8, 32, 128), 2
STEPS, RATE, DECAY = 2000, 5e-3, 1e-5
SAMPLES = 600
PATH_WIDTH, FACTOR = 32, 1.5  # the threshold, over the larger end
LOOKS = 40


def objective(
    width: int, samples: int = SAMPLES, loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy
) -> dss.NetworkObjective:
    """Cross-entropy (or another loss) of 64-m-10 without biases on the first images, pixels in [0, 1/8], so that inputs lie in the unit ball."""
    pixels, labels = load_digits(return_X_y=True)
    x = torch.tensor(pixels[:samples] / 16) / 8
    model = nn.Sequential(nn.Linear(64, width, bias=False), nn.ReLU(), nn.Linear(width, 10, bias=False)).double()
    return dss.NetworkObjective(model, loss, (x, torch.tensor(labels[:samples])))


def trained(judge: dss.NetworkObjective, seed: int, steps: int) -> tuple[Tensor, list[list[float]]]:
    """A point `(p,)`, and at some steps (step, cross-entropy, normalised margin, error rate)."""
    generator = torch.Generator().manual_seed(seed)
    point = 0.3 * torch.randn(judge.space.size, generator=generator, dtype=torch.float64)
    point = point.requires_grad_()
    optimizer = torch.optim.Adam([point], lr=RATE)
    seen, looks = [], {round(steps ** (i / LOOKS)) for i in range(LOOKS + 1)}
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        loss = judge(point[None])[0]
        (loss + DECAY * point.square().sum()).backward()
        optimizer.step()
        if step in looks:
            margin = dss.theory.normalized_margin(judge, point.detach()[None]).item()
            seen.append([step, loss.item(), margin])
    return point.detach(), seen


def trainings(width: int, seeds: int, steps: int, samples: int) -> list[Record]:
    """Margins at the end of training; the first seed keeps its curve."""
    records: list[Record] = []
    judge = objective(width, samples)
    for seed in range(seeds):
        point, seen = trained(judge, seed, steps)
        record: Record = {"loss": seen[-1][1], "margin": seen[-1][2], "bound": dss.theory.margin_bound(judge, point)}
        records.append({**record, "curve": seen} if seed == 0 else record)
    return records


def along_a_path(width: int, steps: int, samples: int) -> list[Record]:
    """Margins, losses and error rates at 101 places of the straight line and of a string between two networks."""
    judge = objective(width, samples)
    ends = [trained(judge, seed, steps)[0] for seed in (0, 1)]
    straight = dss.Path(torch.stack(ends))
    threshold = FACTOR * judge(straight.beads).max().item()
    found = dss.connect(judge, *ends, threshold=threshold, finder=dss.GreedyString(), shorten=True, limits=dss.Limits(seconds=60))
    errors = objective(width, samples, dss.theory.strict_error_rate)
    records: list[Record] = []
    for name, path in (("straight line", straight), ("string", found.path)):
        points = _spread(path)
        records.append({
            "path": name, "connected": name == "string" and found.connected, "length": path.normalized_length, "threshold": threshold,
            "margins": dss.theory.normalized_margin(judge, points).tolist(), "losses": judge(points).tolist(),
            "errors": errors(points).tolist(),
        })  # fmt: skip
    return records


def _spread(path: dss.Path, count: int = 101) -> Tensor:
    """Points `(count, p)` at equal distances along a path."""
    lengths = (path.beads[1:] - path.beads[:-1]).norm(dim=1)
    ends = torch.cat([torch.zeros(1, dtype=lengths.dtype), lengths.cumsum(0)])
    at = torch.linspace(0, 1, count, dtype=lengths.dtype) * ends[-1]
    segments = (torch.searchsorted(ends, at, right=True) - 1).clamp(0, len(lengths) - 1)
    return path.points(segments, (at - ends[segments]) / lengths[segments])


def run(
    out: Path, *, widths: tuple[int, ...] = WIDTHS, seeds: int = SEEDS, steps: int = STEPS, samples: int = SAMPLES,
    path_width: int = PATH_WIDTH,
) -> Results:  # fmt: skip
    """Everything `out` does not hold yet."""
    settings = {"seeds": seeds, "steps": steps, "rate": RATE, "decay": DECAY, "samples": samples, "factor": FACTOR}
    parts: Parts = {
        **{("training", m): lambda m=m: trainings(m, seeds, steps, samples) for m in widths},
        ("path", path_width): lambda: along_a_path(path_width, steps, samples),
    }
    return finish(Results(out, settings), parts)


def picture(results: Results) -> go.Figure:
    """Margins along training, against the width, along paths."""
    found = records_of(results, "training")
    curves = []
    for m, records in found.items():
        steps, _, margins = zip(*records[0]["curve"])  # type: ignore[misc]
        curves.append(Curve(f"m = {m:g}", steps, margins))
    paths = [record for records in records_of(results, "path").values() for record in records]
    share = [i / 100 for i in range(101)]
    ends = [max(values_of(records, "margin")) for records in found.values()]
    return drawing(
        [
            Panel("normalised margin along training", "steps", curves, log_y=False),
            Panel("best of the seeds at the end", "hidden units m", [Curve("margin", list(found), ends)], log_y=False),
            Panel("normalised margin along a path", "share of its length",
                  [Curve(str(r["path"]), share, r["margins"]) for r in paths], log_x=False, log_y=False),  # type: ignore[arg-type]
        ]
    )  # fmt: skip


QUICK = {"widths": (8, 16), "seeds": 1, "steps": 200, "samples": 100, "path_width": 8}

if __name__ == "__main__":
    command(__doc__, "margins", run, picture, QUICK)
