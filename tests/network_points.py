"""Points near a model, and its loss by the plainest loop there is."""

import copy

import torch
from torch import nn


def random_points(model, k=3):
    centre = nn.utils.parameters_to_vector(model.parameters()).detach()
    return centre + 0.1 * torch.randn(k, len(centre), dtype=centre.dtype)


def naive(model, data, loss, point):
    """Losses and gradient as anyone would compute them: load the weights, call backward."""
    model = copy.deepcopy(model)
    nn.utils.vector_to_parameters(point, model.parameters())
    value = loss(model(data[0]), data[1])
    gradient = torch.autograd.grad(value, list(model.parameters()))
    return value.item(), torch.cat([g.reshape(-1) for g in gradient])
