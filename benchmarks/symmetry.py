"""What reordering units is worth: planted permutations, and the straight line between networks trained apart.

    python -m benchmarks.symmetry planted        # 20 seeds a network: is the shuffled copy restored bit for bit?
    python -m benchmarks.symmetry widths         # digits, one hidden layer's width from 16 to 512
    python -m benchmarks.symmetry pairs          # five pairs each: convolutions with BatchNorm, ResNets, a transformer

The straight line's excess is its largest loss over 25 points less that of the worse end, on scikit-learn's 597 test
digits. Ends are trained with Adam on the other 1,200 from different seeds. All on the CPU.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import cast

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import dss
from models.mlp import MLP
from models.resnet import ResNet
from models.transformer import RowTransformer

POINTS = 25


def conv_batch_norm(width: int) -> nn.Module:
    """Two convolutions with BatchNorm, the mean over the image, logits."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(2 * width, 10),
    )  # fmt: skip


PLANTED: dict[str, Callable[[], nn.Module]] = {
    **{f"mlp, 3 x {width}": lambda width=width: MLP(64, 10, width=width, depth=4) for width in (16, 32, 64, 128, 256)},
    "mlp, 8 x 64": lambda: MLP(64, 10, width=64, depth=9),
    "ResNet-20, width 16": lambda: ResNet(),
    "ResNet-20, width 16, no norm": lambda: ResNet(norm=False),
    "ResNet-20, width 8": lambda: ResNet(width=8),
    "transformer, 2 blocks": lambda: RowTransformer(blocks=2),
}
PAIRS: dict[str, Callable[[], nn.Module]] = {
    "conv with BatchNorm, 8": lambda: conv_batch_norm(8),
    "conv with BatchNorm, 32": lambda: conv_batch_norm(32),
    "ResNet-8, width 16": lambda: ResNet(blocks=1),
    "ResNet-8, width 16, no norm": lambda: ResNet(blocks=1, norm=False),
    "transformer, width 32": lambda: RowTransformer(),
}


def objectives(model: nn.Module) -> tuple[dss.NetworkObjective, dss.Objective]:
    """Training loss and judge on the digits."""
    task = dss.load_task("digits")
    training = dss.NetworkObjective(model, cross_entropy, task.train)
    return training, dss.NetworkObjective(model, cross_entropy, task.judge).calibrated_by(training)


def trained(make: Callable[[], nn.Module], seed: int, steps: int) -> torch.Tensor:
    """A point after that many steps of Adam."""
    torch.manual_seed(seed)
    model, (x, y) = make().train(), cast(tuple[torch.Tensor, torch.Tensor], dss.load_task("digits").train)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(steps):
        index = torch.randint(len(x), (128,))
        optimizer.zero_grad()
        cross_entropy(model(x[index]), y[index]).backward()
        optimizer.step()
    return dss.ParameterSpace.of(model).flatten(model.state_dict())


def excess(judge: dss.Objective, a: torch.Tensor, b: torch.Tensor) -> float:
    """The straight line's largest loss less that of the worse end."""
    t = torch.linspace(0, 1, POINTS, dtype=torch.float64)[:, None]
    losses = torch.cat([judge(row[None]) for row in ((1 - t) * a + t * b).to(a.dtype)])
    return (losses.max() - max(losses[0], losses[-1])).item()


def planted(seeds: int) -> Iterator[str]:
    """Random networks and shuffled copies of them."""
    yield "network | units | restored by weights | by activations | seconds, median"
    for name, make in PLANTED.items():
        restored, seconds, units = [0, 0], [], 0
        for seed in range(seeds):
            torch.manual_seed(seed)
            model = make()
            training, _ = objectives(model)
            point = training.space.flatten(model.state_dict())
            specification = dss.align(training, point, point).specification
            units = sum(group.units for group in specification.groups.values())
            shuffled = specification.apply(point, specification.random(torch.Generator().manual_seed(seed)))
            for number, by in enumerate(("weights", "activations")):
                began = time.perf_counter()
                found = dss.align(training, point, shuffled, by=by, seed=seed)
                seconds += [time.perf_counter() - began] if number == 0 else []
                restored[number] += torch.equal(found.point, point)
        yield f"{name} | {units} | {restored[0]}/{seeds} | {restored[1]}/{seeds} | {median(seconds):.2f}"


def row(name: str, make: Callable[[], nn.Module], seed: int, steps: int) -> str:
    """One pair: the straight line as trained, and after alignment."""
    training, judge = objectives(make())
    a, b = trained(make, 2 * seed, steps), trained(make, 2 * seed + 1, steps)
    began = time.perf_counter()
    found = dss.align(training, a, b)
    seconds = time.perf_counter() - began
    by_activations = dss.align(training, a, b, by="activations")
    scaled = dss.align(training, a, b, rescale=True)
    figures = [excess(judge, a, end) for end in (b, found.point, by_activations.point, scaled.point)]
    return f"{name} | {seed} | " + " | ".join(f"{figure:.3f}" for figure in figures) + f" | {seconds:.2f}"


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", choices=("planted", "widths", "pairs"))
    parser.add_argument("--seeds", type=int, default=20, help="of planted permutations")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=800, help="of training an MLP; other networks get 300")
    options = parser.parse_args()
    heading = "network | pair | excess as trained | by weights | by activations | by weights, rescaled | seconds by weights"
    for table in options.tables:
        if table == "planted":
            lines = planted(options.seeds)
        elif table == "widths":
            widths = (16, 32, 64, 128, 256, 512)
            makers = {f"mlp, 2 x {width}": lambda width=width: MLP(64, 10, width=width, depth=3) for width in widths}
            lines = (row(name, make, pair, options.steps) for name, make in makers.items() for pair in range(options.pairs))
        else:
            lines = (row(name, make, pair, 300) for name, make in PAIRS.items() for pair in range(options.pairs))
        print(heading if table != "planted" else table, flush=True)
        for line in lines:
            print(line, flush=True)


if __name__ == "__main__":
    main()
