"""A residual network with BatchNorm on images from a DataLoader: two trainings of one start, joined.

    python examples/resnet.py runs/resnet
    dss connect runs/resnet/a.pt runs/resnet/b.pt --task examples/resnet.py:task --threshold 1.1x --out runs/resnet/path

Fashion-MNIST where it is at hand (docs/data.md), else scikit-learn's digits. BatchNorm's running statistics are recomputed
for every point of the path from the training data, so that a point between two networks is judged as it would be used.
"""

import copy
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu
from torch.utils.data import DataLoader, TensorDataset

import dss
from dss.tasks.data import digits, fashion, fashion_folder

SAMPLES, WIDTH = 512, 4


class Block(nn.Module):
    """Two convolutions, each followed by BatchNorm, and a shortcut."""

    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return relu(x + self.norms[1](self.second(relu(self.norms[0](self.first(x))))))


def network() -> nn.Module:
    """A stem, two blocks, a mean over places, a head."""
    stem = nn.Sequential(nn.Conv2d(1, WIDTH, 3, 2, padding=1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU())
    return nn.Sequential(stem, Block(WIDTH), Block(WIDTH), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * WIDTH, 10))


def task() -> dss.Task:
    """Cross-entropy of the first images, in batches from a loader."""
    (x, y), _ = digits() if fashion_folder() is None else fashion()
    loader = DataLoader(TensorDataset(x[:SAMPLES], y[:SAMPLES]), batch_size=64)
    return dss.Task(network(), cross_entropy, loader, name="residual network", epochs=6, learning_rate=1e-2)


def main(folder: Path, epochs: int = 6) -> dss.Connection:
    """Train from one start in two orders of the data, save both ends, join them."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    *_, start = dss.train(task(), seed=0, epochs=2)
    given, states = replace(task(), model=start.model).read(), []
    for seed, name in enumerate("ab", start=1):
        *_, last = dss.train(given, seed=seed, epochs=epochs)
        states.append(copy.deepcopy(last.model.state_dict()))
        dss.save_state(folder / f"{name}.pt", states[-1])
    objective, _ = given.objectives()
    worst = max(objective(objective.flatten(state)[None]).item() for state in states)
    return dss.connect(objective, *states, threshold=1.2 * worst, limits=dss.Limits(seconds=60))


if __name__ == "__main__":
    print(main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/resnet")).reason)
