"""Dropout stability and connectivity against the width, after Shevchenko & Mondelli's slides: `python -m experiments.mean_field`.

Two layers, y(x) = (1/N) sum_i a_i tanh(w_i.x), trained online: every step sees one new sample and goes
theta <- theta - alpha N grad (y_k - y(x_k))^2 (the slides print a plus). eps_D is |L_N - L_M| with M units kept, scaled to 1/M.
Two such networks trained on different samples are joined by halves: A on one half of the units, B on the other.

Three layers, (1/N) W_3 tanh((1/N) W_2 tanh(W_1 x)), W_1 and W_3 fixed, steps of alpha N^2, on features of images. The slides use
VGG-16's of CIFAR-10; weights of that network were not at hand: fixed random convolutions of scikit-learn's digits stand in.
The two ends are trained on disjoint halves of the data.
"""

from pathlib import Path

import plotly.graph_objects as go
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d, mse_loss

import dss
from experiments.results import Record, Results
from experiments.texts import Curve, Panel, Parts, command, drawing, finish, records_of, slope, values_of

WIDTHS = (50, 100, 200, 400, 800, 1600)
KEPT, KEPT_FROM = (25, 50, 100, 200), (400, 1600)  # M, and the N it is kept of
DIMENSIONS = (5, 20, 80)
INPUTS, SEEDS, DRAWS = 10, 8, 5
TIME, ALPHA = 20.0, 1e-3
TEST = 4000
DEEP_WIDTHS, DEEP_SEEDS, DEEP_TIME, DEEP_ALPHA = (50, 100, 200, 400), 2, 30.0, 1e-3
FILTERS, FEATURES = 24, 64


def sampled(count: int, d: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs `(count, d)` and bounded targets `(count,)`: functions of two directions, whatever d is."""
    x = torch.randn(count, d, generator=generator)
    return x, 0.6 * torch.tanh(2 * x[:, 0]) * (1 + torch.tanh(x[:, 1]))


def start(width: int, d: int, seeds: int) -> tuple[Tensor, Tensor]:
    """Rows w `(seeds, N, d)`, and a `(seeds, N)` of bounded support."""
    generator = torch.Generator().manual_seed(width)
    return torch.randn(seeds, width, d, generator=generator) / d**0.5, torch.rand(seeds, width, generator=generator) * 2 - 1


def trained(width: int, d: int, seeds: int, alpha: float, time: float) -> tuple[Tensor, Tensor]:
    """Networks after time/alpha steps of one sample, all seeds at once, each on samples of its own."""
    w, a = start(width, d, seeds)
    generator = torch.Generator().manual_seed(7 * width + d)
    for _ in range(round(time / alpha)):
        x, y = sampled(seeds, d, generator)
        hidden = torch.tanh((w * x[:, None]).sum(2))
        pull = 2 * alpha * (y - (a * hidden).mean(1))[:, None]
        # Both gradients at the same place; the N of the step and the 1/N of the output cancel.
        a, w = a + pull * hidden, w + (pull * a * (1 - hidden.square()))[:, :, None] * x[:, None]
    return w, a


def losses(w: Tensor, a: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Mean squared errors `(seeds,)`."""
    outputs = torch.stack([torch.tanh(x @ rows.T) @ outer / len(outer) for rows, outer in zip(w, a)])
    return (outputs - y).square().mean(1)


def stability(width: int, d: int, kept: list[int], *, seeds: int, draws: int, alpha: float, time: float) -> list[Record]:
    """eps_D for every M, and how far the path through halves lies above its ends: a record for every seed."""
    w, a = trained(width, d, seeds, alpha, time)
    generator = torch.Generator().manual_seed(1)
    x, y = sampled(TEST, d, generator)
    whole = losses(w, a, x, y)
    records: list[Record] = [{"loss": loss.item(), "variance": y.var().item()} for loss in whole]
    for count in kept:
        orders = [torch.randperm(width, generator=generator)[:count] for _ in range(draws)]
        changes = torch.stack([(losses(w[:, order], a[:, order], x, y) - whole).abs() for order in orders])
        for record, change in zip(records, changes.mean(0), strict=True):
            record[f"eps_{count}"] = change.item()
    half = width // 2
    first, second = losses(w[:, :half], a[:, :half], x, y), losses(w[:, half:], a[:, half:], x, y)
    for i, record in enumerate(records):
        # Corners of the path from network i to the next: either whole, either half; all its pieces are convex or constant.
        j = (i + 1) % len(records)
        record["eps_path"] = max(first[i], second[j], whole[i], whole[j]).item() - max(whole[i], whole[j]).item()
    return records


def halves_path(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> dss.Path:
    """The path through halves between networks of two layers, (w, a) each, as points of `plain`."""
    (w, a), (v, b) = first, second
    n, half = len(a), len(a) // 2
    low, high = torch.arange(n) < half, torch.arange(n) >= half
    mixed = torch.where(low[:, None], w, v)
    corners = [
        (w, a), (w, 2 * a * low), (mixed, 2 * a * low), (mixed, 2 * b * high), (v, 2 * b * high), (v, b),
    ]  # fmt: skip
    return dss.Path(torch.stack([torch.cat([rows.flatten(), outer / n]) for rows, outer in corners]))


def plain(width: int, d: int, x: Tensor, y: Tensor) -> dss.NetworkObjective:
    """The mean squared error of a network of two layers."""
    model = nn.Sequential(nn.Linear(d, width, bias=False), nn.Tanh(), nn.Linear(width, 1, bias=False)).to(x.dtype)
    return dss.NetworkObjective(model, mse_loss, (x, y[:, None]))


def features() -> tuple[Tensor, Tensor]:
    """Features `(1797, 65)` of scikit-learn's digits, a constant among them, and one-hot classes: fixed random convolutions, ReLU,
    pooling, principal axes."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    filters = torch.randn(FILTERS, 1, 3, 3, generator=torch.Generator().manual_seed(0)) / 3
    seen = max_pool2d(torch.relu(conv2d(images, filters, padding=1)), 2).flatten(1)
    seen = seen - seen.mean(0)
    axes = torch.linalg.svd(seen, full_matrices=False).Vh[:FEATURES]
    seen = seen @ axes.T
    seen = torch.cat([seen / seen.std(), torch.ones(len(seen), 1)], 1)
    order = torch.randperm(len(seen), generator=torch.Generator().manual_seed(1))
    return seen[order], nn.functional.one_hot(torch.tensor(labels)[order], 10).float()


def deep_trained(width: int, x: Tensor, y: Tensor, seed: int, alpha: float, time: float) -> list[Tensor]:
    """W_1, W_2, W_3 of three layers after time/alpha steps of one sample each; W_1 and W_3 stay as drawn, of bounded support."""
    generator = torch.Generator().manual_seed(seed)
    one, two, three = (
        (torch.rand(*shape, generator=generator) * 2 - 1) * scale
        for shape, scale in (((width, x.shape[1]), 0.3), ((width, width), 1.0), ((y.shape[1], width), 3.0))
    )
    for k in torch.randint(len(x), (round(time / alpha),), generator=generator).tolist():
        below = torch.tanh(one @ x[k])
        hidden = torch.tanh(two @ below / width)
        pull = 2 * alpha * (three.T @ (y[k] - three @ hidden / width)) * (1 - hidden.square())
        two.addr_(pull, below)
    return [one, two, three]


def deep(width: int, *, seeds: int, alpha: float, time: float) -> list[Record]:
    """Two networks of three layers on disjoint halves of the images: stability with half kept, and the path between them.

    Losses are means over images and the ten outputs."""
    x, y = features()
    half = len(x) // 2
    model = nn.Sequential(
        nn.Linear(x.shape[1], width, bias=False), nn.Tanh(), nn.Linear(width, width, bias=False), nn.Tanh(), nn.Linear(width, 10, bias=False)
    )  # fmt: skip
    judge = dss.NetworkObjective(model.double(), mse_loss, (x.double(), y.double()))
    records: list[Record] = []
    for seed in range(seeds):
        points = []
        for part in (slice(0, half), slice(half, None)):
            one, two, three = deep_trained(width, x[part], y[part], 2 * seed + (part.start > 0), alpha, time)
            points.append(judge.space.flatten({"0.weight": one, "2.weight": two / width, "4.weight": three / width}).double())
        ends = judge(torch.stack(points)).max().item()
        kept = dss.theory.dropout_stability(judge, points[0], keep=0.5, tries=10, seed=seed)
        found = dss.connect(judge, *points, threshold=10.0, finder=dss.ConvexPath(halves="random"))
        straight = dss.connect(judge, *points, threshold=10.0, finder=dss.StraightLine(), prove="never")
        error = dss.NetworkObjective(model, dss.error_rate, (x.double(), y.argmax(1)))(points[0][None]).item()
        assert found.certificate.upper is not None  # a mean squared error and a chain of layers: proved by convexity
        records.append({
            "ends": ends, "error_rate": error, "eps_all_layers": kept[0].item(), "eps_last_layer": kept[1].item(),
            "eps_convex": found.certificate.upper - ends, "proven": found.certificate.proven,
            "eps_straight": straight.certificate.max_loss - ends,
        })  # fmt: skip
    return records


def run(
    out: Path, *, widths: tuple[int, ...] = WIDTHS, kept_from: tuple[int, ...] = KEPT_FROM, kept: tuple[int, ...] = KEPT,
    dimensions: tuple[int, ...] = DIMENSIONS, seeds: int = SEEDS, time: float = TIME, alpha: float = ALPHA,
    deep_widths: tuple[int, ...] = DEEP_WIDTHS, deep_seeds: int = DEEP_SEEDS, deep_time: float = DEEP_TIME,
) -> Results:  # fmt: skip
    """Everything `out` does not hold yet."""
    settings = {"inputs": INPUTS, "seeds": seeds, "draws": DRAWS, "time": time, "alpha": alpha, "test": TEST}
    settings |= {"features": FEATURES, "deep_seeds": deep_seeds, "deep_time": deep_time, "deep_alpha": DEEP_ALPHA}
    how = {"seeds": seeds, "draws": DRAWS, "alpha": alpha, "time": time}
    parts: Parts = {
        **{
            ("two layers", n): lambda n=n: stability(n, INPUTS, [n // 2, *(kept if n in kept_from else ())], **how)
            for n in widths
        },
        **{("dimension, N = 200", d): lambda d=d: stability(200, d, [100], **how) for d in dimensions},
        **{("three layers", n): lambda n=n: deep(n, seeds=deep_seeds, alpha=DEEP_ALPHA, time=deep_time) for n in deep_widths},
    }
    return finish(Results(out, settings), parts)


def mean_eps(results: Results, work: str, key: str) -> tuple[list[float], list[float]]:
    """Widths, and the mean of one figure over seeds; `{half}` in the key is half the width."""
    found = records_of(results, work)
    means = [sum(values_of(r, key.format(half=int(n) // 2))) / len(r) for n, r in found.items()]
    return list(found), means


def width_slope(results: Results) -> float:
    """Slope of log eps_D against log N, half of the units kept."""
    return slope(*mean_eps(results, "two layers", "eps_{half}"))


def picture(results: Results) -> go.Figure:
    """eps_D against N, against M, and for three layers."""
    widths, eps = mean_eps(results, "two layers", "eps_{half}")
    _, paths = mean_eps(results, "two layers", "eps_path")
    against_m = []
    for n, records in records_of(results, "two layers").items():
        counts = sorted(int(key[4:]) for key in records[0] if key.startswith("eps_") and key != "eps_path")
        if len(counts) > 1:
            means = [sum(values_of(records, f"eps_{m}")) / len(records) for m in counts]
            against_m.append(Curve(f"N = {n:g}", counts, means))
    layers = [
        Curve(name, *mean_eps(results, "three layers", key))
        for name, key in (("half of all layers kept", "eps_all_layers"), ("half of the last kept", "eps_last_layer"),
                          ("straight line, above its ends", "eps_straight"), ("written-down path, above its ends", "eps_convex"))
    ]  # fmt: skip
    law = [eps[0] * (n / widths[0]) ** -0.5 for n in widths]
    two = [
        Curve("half kept, ε_D", widths, eps),
        Curve("path through halves, ε_C", widths, paths),
        Curve("slope -1/2", widths, law, law=True),
    ]
    return drawing(
        [
            Panel("two layers, against N", "N", two),
            Panel("two layers, M units kept", "M", against_m),
            Panel("three layers, features of digits", "N", layers),
        ]
    )


QUICK = {"widths": (20, 80), "kept_from": (80,), "kept": (10, 20), "dimensions": (5,), "seeds": 2, "time": 1.0, "alpha": 1e-2,
         "deep_widths": (20,), "deep_seeds": 1, "deep_time": 0.5}  # fmt: skip

if __name__ == "__main__":
    command(__doc__, "mean_field", run, picture, QUICK)
