"""Small tables, and networks for them."""

import random

import numpy as np
import torch
from torch import nn

N, FEATURES, CLASSES = 37, 4, 3


def table(seed=0, n=N):
    """Inputs that tell each sample, and classes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, FEATURES, generator=generator), torch.randint(CLASSES, (n,), generator=generator)


def generator(seed=5):
    return torch.Generator().manual_seed(seed)


def seed_all(seed):
    torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)


def net(features=FEATURES, outputs=CLASSES):
    seed_all(0)
    return nn.Sequential(nn.Linear(features, 6), nn.Tanh(), nn.Linear(6, outputs))


def point_of(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach()[None]


X, Y = table()
