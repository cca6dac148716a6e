"""The paper's 1-4-4-1 networks on a polynomial: a fast objective for thousands of points, and ends from one training run."""

from collections.abc import Callable

import torch
from torch import Tensor

from dss import InputError, NetworkObjective, Objective, ParameterSpace, PolynomialNet

ROWS_AT_ONCE = 64
SAMPLE_SEED = 10**6


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
        return torch.cat([_Errors.apply(part, self) for part in points.split(ROWS_AT_ONCE)]).double()

    def network_objective(self) -> NetworkObjective:
        """The same loss as a `NetworkObjective`, which proofs can enclose."""
        bias = "layers.0.bias" in self.space.names
        net = PolynomialNet(bias=bias, bounded=self.bounded).to(self.x.dtype)
        return NetworkObjective(
            net, torch.nn.functional.l1_loss, (self.x[:, None], self.y[:, None]), description=self.description
        )


class _Errors(torch.autograd.Function):
    """Mean absolute errors with the gradient written out, and computed beside them: autograd's own bookkeeping costs more."""

    @staticmethod
    def forward(ctx, points: Tensor, of: PolynomialObjective) -> Tensor:
        layers = [of.space.unflatten(points).get(f"layers.{i}.{kind}") for i in range(3) for kind in ("weight", "bias")]
        inputs = [of.x.expand(len(points), 1, -1)]
        for layer in range(3):
            z = layers[2 * layer] @ inputs[-1]
            if layers[2 * layer + 1] is not None:
                z += layers[2 * layer + 1][..., None]
            inputs.append(z.sigmoid_() if layer < 2 or of.bounded else z)
        errors = inputs.pop()[:, 0]
        slope = errors * (1 - errors) if of.bounded else None
        errors = errors - of.y
        if ctx.needs_input_grad[0]:
            upstream = errors.sign() / of.samples
            ctx.save_for_backward(_gradient(layers, inputs, (upstream if slope is None else upstream * slope)[:, None]))
        return errors.abs_().mean(1)

    @staticmethod
    def backward(ctx, cotangent: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0] * cotangent[:, None].to(ctx.saved_tensors[0]), None


def _gradient(layers: list[Tensor | None], inputs: list[Tensor], upstream: Tensor) -> Tensor:
    """Gradients `(k, p)` from `upstream` `(k, 1, n)`, the loss's derivative by the last layer's sums; layers backwards."""
    parts: list[Tensor] = []
    for layer in (2, 1, 0):
        weight, bias = layers[2 * layer : 2 * layer + 2]
        if bias is not None:
            parts.append(upstream.sum(2))
        parts.append((upstream @ inputs[layer].transpose(1, 2)).flatten(1))
        if layer:
            upstream = weight.transpose(1, 2) @ upstream
            upstream *= inputs[layer]
            upstream *= 1 - inputs[layer]
    return torch.cat(parts[::-1], 1)


def midpoint_samples(function: Callable[[Tensor], Tensor], n: int) -> tuple[Tensor, Tensor]:
    """The midpoint rule on [0, 1]: n samples x, y `(n,)` float64 whose mean loss is the expectation over uniform x."""
    x = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return x, function(x)


def random_samples(function: Callable[[Tensor], Tensor], n: int, seed: int) -> tuple[Tensor, Tensor]:
    """n samples x, y `(n,)` float64 with x uniform in [0, 1]: what the paper's scripts draw."""
    # Starting points are drawn with small seeds: samples must not share their stream.
    x = torch.rand(n, generator=torch.Generator().manual_seed(SAMPLE_SEED + seed), dtype=torch.float64)
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
    rows, levels = points.clone().requires_grad_(), torch.tensor(thresholds, dtype=torch.float64)
    optimizer = torch.optim.Adam([rows], lr=1e-3)
    found = points.repeat(len(levels), 1, 1)
    arrived = torch.zeros(len(levels), len(points), dtype=torch.bool)
    for _ in range(max_steps):
        optimizer.zero_grad()
        losses = objective(rows)
        new = (losses.detach() <= levels[:, None]) & ~arrived
        if new.any():
            found[new] = rows.detach().expand_as(found)[new]
            arrived |= new
            if arrived.all():
                break
        losses.sum().backward()
        optimizer.step()
    return {level: (found[i], arrived[i]) for i, level in enumerate(thresholds)}
