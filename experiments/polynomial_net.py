"""The paper's 1-4-4-1 networks on a polynomial: a fast objective for thousands of points, and ends from one training run."""

from collections.abc import Callable

import torch
from torch import Tensor

from dss import InputError, NetworkObjective, Objective, ParameterSpace
from dss.tasks.nets import PolynomialNet

ROWS_AT_ONCE = 64


class PolynomialObjective(Objective):
    """The mean absolute error of `PolynomialNet`s: the values of `NetworkObjective`, several times faster.

    Args:
        x, y: samples `(n,)`.
        bias, bounded: of the network, see `PolynomialNet`.
        description: what the loss is and on which data.
    """

    def __init__(self, x: Tensor, y: Tensor, *, bias: bool, bounded: bool, description: str):
        self.x, self.y, self.bounded, self.samples = x, y, bounded, len(x)
        self.batch_samples, self.description = len(x), description
        self.space = ParameterSpace.of(PolynomialNet(bias=bias, bounded=bounded).to(x.dtype))

    def __call__(self, points: Tensor) -> Tensor:
        return torch.cat([self._losses(part) for part in points.split(ROWS_AT_ONCE)]).double()

    def _losses(self, points: Tensor) -> Tensor:
        parameters = self.space.unflatten(points)
        h = self.x.expand(len(points), 1, -1)
        for layer in range(3):
            h = parameters[f"layers.{layer}.weight"] @ h
            if (bias := parameters.get(f"layers.{layer}.bias")) is not None:
                h = h + bias[..., None]
            if layer < 2 or self.bounded:
                h = h.sigmoid()
        return (h[:, 0] - self.y).abs().mean(1)

    def network_objective(self) -> NetworkObjective:
        """The same loss as a `NetworkObjective`, which proofs can enclose."""
        bias = "layers.0.bias" in self.space.names
        net = PolynomialNet(bias=bias, bounded=self.bounded).to(self.x.dtype)
        return NetworkObjective(
            net, torch.nn.functional.l1_loss, (self.x[:, None], self.y[:, None]), description=self.description
        )


def midpoint_samples(function: Callable[[Tensor], Tensor], n: int) -> tuple[Tensor, Tensor]:
    """The midpoint rule on [0, 1]: n samples x, y `(n,)` float64 whose mean loss is the expectation over uniform x."""
    x = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return x, function(x)


def random_samples(function: Callable[[Tensor], Tensor], n: int, seed: int) -> tuple[Tensor, Tensor]:
    """n samples x, y `(n,)` float64 with x uniform in [0, 1]: what the paper's scripts draw."""
    x = torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x, function(x)


def initial_points(objective: PolynomialObjective, count: int, seed: int) -> Tensor:
    """Starting points `(count, p)`: weights uniform in [-1, 1], biases standard normal."""
    generator = torch.Generator().manual_seed(seed)
    weights = objective.space.coordinates(objective.space.weights)
    uniform = 2 * torch.rand(count, objective.space.size, generator=generator, dtype=torch.float64) - 1
    normal = torch.randn(count, objective.space.size, generator=generator, dtype=torch.float64)
    return torch.where(weights, uniform, normal)


def train_ends(
    objective: Objective, points: Tensor, thresholds: tuple[float, ...], *, max_steps: int
) -> dict[float, tuple[Tensor, Tensor]]:
    """Where full-batch Adam at rate 1e-3 first meets every threshold, from each starting point.

    One training run of a point passes all thresholds, so that ends at several thresholds cost one run.

    Returns:
        Per threshold, points `(k, p)` and which of them arrived, `(k,)`.
    """
    if max_steps < 1:
        raise InputError(f"max_steps must be at least 1, got {max_steps}")
    rows = points.clone().requires_grad_()
    optimizer = torch.optim.Adam([rows], lr=1e-3)
    ends = {level: (points.clone(), torch.zeros(len(points), dtype=torch.bool)) for level in thresholds}
    for _ in range(max_steps):
        optimizer.zero_grad()
        losses = objective(rows)
        for level, (found, arrived) in ends.items():
            new = (losses.detach() <= level) & ~arrived
            if new.any():
                found[new], arrived[new] = rows.detach()[new], True
        if all(arrived.all() for _, arrived in ends.values()):
            break
        losses.sum().backward()
        optimizer.step()
    return ends
