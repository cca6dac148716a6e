"""How far proofs of whole paths get: cells, seconds and the width of the bracket, per architecture and depth.

    python -m benchmarks.proof [--seconds 60] [--factor 1.02] [--only mlp-6,transformer] [--tolerance 1e-3]

Two networks are trained, joined by a greedy string, and the path's loss on the whole test set is proved to stay below
`factor` times its largest value on a grid of 41 points per segment, which is timed too.
"""

import argparse
import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, l1_loss

import dss
from dss.proof import Bracket, prove
from dss.tasks import data
from dss.tasks.nets import DigitsNet, PolynomialNet
from models.mlp import MLP
from models.recurrent import LanguageModel
from models.resnet import ResNet
from models.transformer import RowTransformer

GRID = 41
LINES = 16


@dataclass(frozen=True)
class Case:
    """An architecture, its data and how long an end is trained; paths are sought at `threshold`."""

    make: Callable[[], nn.Module]
    data: Callable[[], tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]]
    threshold: float
    steps: int = 250
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    learning_rate: float = 3e-3


def letters() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Lines of a rule-made text over 12 letters: each letter follows from the two before it, with some noise."""
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(12, (600, LINES + 1), generator=generator)
    for i in range(2, LINES + 1):
        follow = (text[:, i - 1] * 5 + text[:, i - 2] * 3 + 1) % 12
        text[:, i] = torch.where(torch.rand(600, generator=generator) < 0.9, follow, text[:, i])
    return (text[:400, :-1], text[:400, 1:]), (text[400:, :-1], text[400:, 1:])


def quadratic() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The paper's quadratic on 1,000 points."""
    return data.polynomial((0.5, 0.25, 0.1))


CASES = {
    "1-4-4-1": Case(lambda: PolynomialNet(bias=True, bounded=True), quadratic, 0.02, 2000, l1_loss, 1e-2),
    "digits-conv": Case(DigitsNet, data.digits, 0.5),
    **{f"mlp-{d}": Case(lambda d=d: MLP(64, 10, depth=d), data.digits, 0.5, 250 + 50 * d) for d in (2, 4, 6, 8, 12)},
    "mlp-6-gelu": Case(lambda: MLP(64, 10, depth=6, activation=nn.GELU), data.digits, 0.5),
    "mlp-6-tanh": Case(lambda: MLP(64, 10, depth=6, activation=nn.Tanh), data.digits, 0.5),
    "lstm": Case(lambda: LanguageModel(12, width=16), letters, 2.0, 400, learning_rate=1e-2),
    "gru": Case(lambda: LanguageModel(12, width=16, cell=nn.GRU), letters, 2.0, 400, learning_rate=1e-2),
    "transformer": Case(lambda: RowTransformer(), data.digits, 0.5),
    "resnet-8": Case(lambda: ResNet(blocks=1, width=8, norm=False), data.digits, 0.5),
    "resnet-20": Case(lambda: ResNet(blocks=3, width=8, norm=False), data.digits, 0.7, 400),
}


def trained(case: Case, seed: int) -> nn.Module:
    """One end: Adam on minibatches of 128."""
    torch.manual_seed(seed)
    model, (x, y) = case.make(), case.data()[0]
    optimizer = torch.optim.Adam(model.parameters(), case.learning_rate)
    for _ in range(case.steps):
        index = torch.randint(len(x), (128,))
        loss = case.loss(model(x[index]), y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def found(case: Case) -> tuple[dss.NetworkObjective, dss.Path]:
    """The judge and a path between two trained networks."""
    models = [trained(case, seed) for seed in (0, 1)]
    train, judge = (dss.NetworkObjective(copy.deepcopy(models[0]), case.loss, part) for part in case.data())
    start, end = (dss.ParameterSpace.of(model).flatten(model.state_dict()) for model in models)
    top = max(case.threshold, 1.1 * train(torch.stack([start, end])).max().item())
    finder = dss.GreedyString(limits=dss.Limits(rounds=4, seconds=120))
    return judge, dss.connect(train, start, end, threshold=top, finder=finder, prove="never").path


def sampled(judge: dss.NetworkObjective, path: dss.Path) -> tuple[float, float]:
    """The largest loss on the grid, and the seconds it took."""
    began, t = time.perf_counter(), torch.linspace(0, 1, GRID)[:, None]
    with torch.no_grad():
        most = max(judge(torch.lerp(a, b, t)).max().item() for a, b in zip(path.beads, path.beads[1:]))
    return most, time.perf_counter() - began


def last_bracket(judge: dss.NetworkObjective, path: dss.Path, **options) -> tuple[Bracket, float]:
    """Where a proof ends, and its seconds."""
    began = time.perf_counter()
    for bracket in prove(judge, path.beads, **options):
        pass
    return bracket, time.perf_counter() - began


def report(name: str, factor: float, seconds: float, tolerance: float | None) -> str:
    """One row of the table."""
    judge, path = found(CASES[name])
    most, grid = sampled(judge, path)
    goal = {"threshold": factor * most} if tolerance is None else {"tolerance": tolerance}
    bracket, took = last_bracket(judge, path, max_seconds=seconds, **goal)
    width = bracket.width / most if math.isfinite(bracket.upper) else math.inf
    return (f"{name:12s} {path.beads.shape[1]:8d} {len(path) - 1:8d} {most:8.4f} {grid:8.2f} "
            f"{bracket.verdict.name:10s} "
            f"{bracket.upper:9.4g} {width:9.2g} {bracket.cells:6d} {len(bracket.stairs):6d} {took:8.2f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="limit of one proof")
    parser.add_argument("--factor", type=float, default=1.02, help="the threshold over the largest loss of the grid")
    parser.add_argument("--tolerance", type=float, help="bracket the largest loss instead")
    parser.add_argument("--only", help="comma-separated cases")
    options = parser.parse_args()
    print(f"{'net':12s} {'params':>8s} {'segments':>8s} {'sampled':>8s} {'grid s':>8s} {'verdict':10s} {'upper':>9s} "
          f"{'width':>9s} {'cells':>6s} {'leaves':>6s} {'proof s':>8s}")  # fmt: skip
    for name in options.only.split(",") if options.only else CASES:
        print(report(name, options.factor, options.seconds, options.tolerance), flush=True)


if __name__ == "__main__":
    main()
