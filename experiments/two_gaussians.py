"""The two-Gaussian example of section 2.3.1, relative to sigma^2: `python -m experiments.two_gaussians`.

The text: X from a mixture of two Gaussians in the plane, centred at mu_Z for Z = +-1, Y = (X - mu_Z) Z, two hidden ReLU
units. A network and its copy with the units swapped "achieve arbitrarily small risk by letting the covariance go to 0",
and any path between them passes a first layer of rank 1, "which leads to an estimator with risk at least 1/2".

But Y is of size sigma: E |Y|^2 = 2 sigma^2, and the risk of every fit, the zero function's too, goes to 0 with sigma. In
units of E |Y|^2 the second half is right: a first layer of rank 1 sees one direction a . X, the part of Y orthogonal to a
is independent of it, and half of E |Y|^2 is left. So the example needs ends that do better than half. The first part
searches for them where sigma is small: a unit then sees relu(w . xi + s) on one component and relu(w . xi + t) on the
other, xi standard normal, s and t free; the best outer weights are a linear solve.

The second part is a repair: Y = Z, a bias-free network, and centres at a right angle. With sigma -> 0 the data are two points, the
argument of `dss.theory.disconnection` holds with a 2 x 2 matrix relu(mu_i . w_j), and the least risk at which its
determinant can vanish is 1/2: the spans are lines through h >= 0, and (h1 - h2)^2 <= |h|^2.
"""

import argparse
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

import dss
from experiments.results import Record, Results, fill
from experiments.workers import add_workers, executor_of

SAMPLES, STARTS, STEPS = 1500, 100, 600
SIGMAS = (0.3, 0.1, 0.03)
THRESHOLDS = (0.8, 0.6, 0.52, 0.48, 0.3)
SECONDS = 10.0  # of one search
DATA = "mixtures of two Gaussians in the plane"
CENTRES = torch.eye(2, dtype=torch.float64)


def standard_normal(samples: int, seed: int) -> Tensor:
    """Samples `(samples, 2)` whose mean is exactly 0 and whose covariance is exactly the identity."""
    xi = torch.randn(samples, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    xi = xi - xi.mean(0)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(xi.T @ xi / samples), xi.T, upper=False).T


def relative_risk(xi: Tensor, w: Tensor, s: Tensor, t: Tensor, *, output_bias: bool) -> Tensor:
    """The risk over E |Y|^2 with the best outer weights, `(k,)`, in the limit of small sigma.

    Args:
        xi: `(n, 2)` standard normal.
        w: `(k, units, 2)` directions.
        s, t: `(k, units)` offsets on either component, in deviations.
    """
    hidden = torch.cat([(xi @ w.transpose(1, 2) + offset[:, None]).relu() for offset in (s, t)], 1)
    if output_bias:
        hidden = torch.cat([hidden, torch.ones_like(hidden[..., :1])], -1)
    y = torch.cat([xi, -xi])
    ridge = 1e-9 * torch.eye(hidden.shape[-1], dtype=xi.dtype)
    gram, cross = hidden.transpose(1, 2) @ hidden / len(y) + ridge, hidden.transpose(1, 2) @ y / len(y)
    total = (y**2).sum() / len(y)
    return 1 - (cross * torch.linalg.solve(gram, cross)).sum((1, 2)) / total


def least_risk(output_bias: bool, *, samples: int, starts: int, steps: int) -> Record:
    """The least relative risk of two units that descent finds from random starts, and how close to rank 1 it is."""
    generator = torch.Generator().manual_seed(0)
    xi = standard_normal(samples, 0)
    w, s, t = (
        (scale * torch.randn(starts, 2, *more, generator=generator, dtype=torch.float64)).requires_grad_()
        for scale, more in ((1, (2,)), (2, ()), (2, ()))
    )
    optimizer = torch.optim.Adam([w, s, t], lr=0.03)
    for _ in range(steps):
        optimizer.zero_grad()
        risks = relative_risk(xi, w, s, t, output_bias=output_bias)
        risks.sum().backward()
        optimizer.step()
    best = int(risks.argmin())
    first, second = nn.functional.normalize(w[best].detach(), dim=1)
    sine = abs((first[0] * second[1] - first[1] * second[0]).item())
    return {"output_bias": output_bias, "relative_risk": risks[best].item(), "sine_between_units": sine}


def least_risks(**size: int) -> list[Record]:
    """Without and with an output bias."""
    return [least_risk(output_bias, **size) for output_bias in (False, True)]


def classifier(sigma: float, samples: int) -> dss.NetworkObjective:
    """The repair: the squared error of a bias-free 2-2-1 ReLU network for Y = Z."""
    xi = standard_normal(samples, 1)
    x = torch.cat([CENTRES[0] + sigma * xi, CENTRES[1] + sigma * xi])
    z = torch.cat([torch.ones(samples), -torch.ones(samples)]).to(x)[:, None]
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False)).double()
    return dss.NetworkObjective(net, mse_loss, (x, z), description=f"mean squared error, Y = Z, sigma {sigma:g}")


def bisecting() -> tuple[Tensor, Tensor]:
    """The network whose units see one centre each, and its copy with the units swapped and rescaled.

    The scales are unequal, because half-way between exact copies is a saddle from which no gradient leads away.
    """
    w = torch.tensor([[1.0, -0.5], [-0.5, 1.0]], dtype=torch.float64)
    v, scales = torch.tensor([1.0, -1.0], dtype=torch.float64), torch.tensor([1.5, 0.8], dtype=torch.float64)
    return torch.cat([w.reshape(-1), v]), torch.cat([(w.flip(0) * scales[:, None]).reshape(-1), v.flip(0) / scales])


def swapped_classifiers(sigma: float, *, thresholds: tuple[float, ...], samples: int, seconds: float) -> list[Record]:
    """Greedy strings between the two, at thresholds going down; an end above the threshold is said to be so."""
    objective, (start, end) = classifier(sigma, samples), bisecting()
    risk = objective(start[None]).item()
    records = []
    for threshold in thresholds:
        record: Record = {"threshold": threshold, "end_risk": risk, "connected": False}
        if risk <= threshold:
            finder = dss.GreedyString(descent=dss.Descent(max_steps=3000), limits=dss.Limits(beads=100, seconds=seconds))
            found = dss.connect(objective, start, end, threshold=threshold, finder=finder)
            record |= {"connected": found.connected, "proven": found.certificate.proven, "max_loss": found.certificate.max_loss}
        records.append(record)
    return records


def run(out: Path, *, samples: int = SAMPLES, starts: int = STARTS, steps: int = STEPS,
        sigmas: tuple[float, ...] = SIGMAS, thresholds: tuple[float, ...] = THRESHOLDS, seconds: float = SECONDS, executor: Executor | None = None) -> Results:  # fmt: skip
    """Everything `out` does not hold yet."""
    results = Results(out, {"data": DATA, "samples": samples, "starts": starts, "steps": steps, "thresholds": thresholds})
    size = {"samples": samples, "starts": starts, "steps": steps}
    repair = {"thresholds": thresholds, "samples": samples, "seconds": seconds}
    parts = {("literal, small sigma", 0.0): partial(least_risks, **size)}
    parts |= {(f"swapped, sigma {sigma:g}", sigma): partial(swapped_classifiers, sigma, **repair) for sigma in sigmas}
    return fill(results, parts, lambda piece, records: f"{piece[0]}: {records}", executor)


def main() -> None:
    parser = argparse.ArgumentParser(description="the two-Gaussian example of section 2.3.1, relative to sigma^2")
    parser.add_argument("--quick", action="store_true", help="few samples, one sigma, into runs/")
    add_workers(parser)
    options = parser.parse_args()
    here = Path(__file__)
    (here.parent / "runs").mkdir(exist_ok=True)
    small = {"samples": 200, "starts": 8, "steps": 60, "sigmas": (0.1,), "thresholds": (0.9, 0.3), "seconds": 3.0}
    out, size = (here.parent / "runs" / "two_gaussians-quick.json", small) if options.quick else (here.with_suffix(".json"), {})
    with executor_of(options) as executor:
        run(out, **size, executor=executor)


if __name__ == "__main__":
    main()
