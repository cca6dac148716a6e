"""The networks of the built-in tasks."""

from typing import cast

import torch
from torch import Tensor, nn


class DigitsNet(nn.Sequential):
    """A small conv net with ReLU and max-pool for 8x8 digits, 5,956 parameters."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 12, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(96, 30),
            nn.ReLU(),
            nn.Linear(30, 10),
        )


class PolynomialNet(nn.Module):
    """The paper's 1-4-4-1 network for polynomial regression (Freeman & Bruna 2017, section 4.1).

    Weights start uniform in [-1, 1] and biases normal, as the paper's experiments had them.

    Args:
        bias: whether the forward pass uses biases (cubics) or not (quadratics).
        bounded: whether the output passes a sigmoid too (quadratics).
    """

    def __init__(self, *, bias: bool, bounded: bool):
        super().__init__()
        layers = [nn.Linear(n, m, bias=bias) for n, m in ((1, 4), (4, 4), (4, 1))]
        self.layers, self.bounded = nn.ModuleList(layers), bounded
        for layer in layers:
            nn.init.uniform_(layer.weight, -1, 1)
            if bias:
                nn.init.normal_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        first, second, last = self.layers
        y = last(torch.sigmoid(second(torch.sigmoid(first(x)))))
        return torch.sigmoid(y) if self.bounded else y


class PaperMNISTNet(nn.Module):
    """The paper's network for 28x28 images, 3.3 million parameters: two 5x5 convolutions, one wide dense layer.

    Weights start as truncated normals of deviation 0.1 and biases at 0.1, as the paper's experiments had them.
    """

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 5, padding=2), nn.Conv2d(32, 64, 5, padding=2)
        self.fc1, self.fc2 = nn.Linear(7 * 7 * 64, 1024), nn.Linear(1024, 10)
        self.dropout = nn.Dropout(0.5)
        for layer in (self.conv1, self.conv2, self.fc1, self.fc2):
            nn.init.trunc_normal_(layer.weight, std=0.1, a=-0.2, b=0.2)
            nn.init.constant_(cast(Tensor, layer.bias), 0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        return self.fc2(self.dropout(torch.relu(self.fc1(x.flatten(1)))))
