"""A physics-informed network: two solutions of one differential equation, joined.

    python examples/pinn.py runs/pinn                     # trains two networks, joins them, says what was found
    dss connect runs/pinn/a.pt runs/pinn/b.pt --task examples/pinn.py:task --threshold 0.5 --out runs/pinn/path

The equation is u'' = -pi^2 sin(pi x) on [0, 1] with u = 0 at both ends. The network's forward returns u'' at the points of
the data, by two calls of torch.autograd.grad; the loss compares it with the right side.
"""

import math
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

import dss

POINTS, STEPS = 32, 600


class Poisson(nn.Module):
    """u(x) = x (1 - x) net(x), which is 0 at both ends; called, it returns u''."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 12), nn.Tanh(), nn.Linear(12, 1))

    def solution(self, x: Tensor) -> Tensor:
        """u at points `(n, 1)`."""
        return x * (1 - x) * self.net(x)

    def forward(self, x: Tensor) -> Tensor:
        x = x.requires_grad_()
        (slope,) = torch.autograd.grad(self.solution(x).sum(), x, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
        return curvature


def task() -> dss.Task:
    """The mean squared residual at equidistant points."""
    x = torch.linspace(0, 1, POINTS)[:, None]
    right = -(math.pi**2) * (math.pi * x).sin()
    return dss.Task(Poisson(), mse_loss, (x, right), name="poisson", epochs=STEPS, learning_rate=2e-2)


def main(folder: Path) -> dss.Connection:
    """Train both ends, save them, join them."""
    folder.mkdir(parents=True, exist_ok=True)
    states = []
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        *_, last = dss.train(task(), seed=seed)
        states.append(last.model.state_dict())
        dss.save_state(folder / f"{name}.pt", states[-1])
    objective, _ = task().objectives()
    worst = max(objective(objective.flatten(state)[None]).item() for state in states)
    return dss.connect(objective, *states, threshold=max(1.5 * worst, 0.5))


if __name__ == "__main__":
    print(main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/pinn")).reason)
