"""Dense networks of any depth."""

import itertools
from collections.abc import Callable

from torch import Tensor, nn


class MLP(nn.Module):
    """`depth` linear layers with an activation between any two.

    Args:
        inputs, outputs: numbers of features; inputs of any shape `(n, ...)` are flattened.
        width: units of a hidden layer.
        depth: linear layers, at least 1.
        activation: makes a module; `nn.ReLU` by default.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int = 64,
        depth: int = 2,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ):
        super().__init__()
        sizes = [inputs, *[width] * (depth - 1), outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)
