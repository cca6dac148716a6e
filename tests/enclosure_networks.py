"""Whole networks for tests of their bounds: data, random cells of random segments, exact losses."""

import torch
from enclosure_points import under_corners
from torch import nn
from torch.func import functional_call

from dss.enclosure import CORNERS, enclose

IMAGES = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 3, 9, 1, 1, 7])
WORDS = torch.randint(12, (3, 5), generator=torch.Generator().manual_seed(1))
NEXT = torch.randint(12, (3, 5), generator=torch.Generator().manual_seed(2))


def frozen(model):
    """A model whose running statistics are not the initial ones."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2.0)
    return model


def cells(model, generator, width, count=3):
    """Random segments near a model's parameters, and cells of them: ends, lower and upper t."""
    draw = lambda v: torch.randn((count, *v.shape), generator=generator, dtype=v.dtype)  # noqa: E731
    start = {n: v.detach() * 1.5 + 0.1 * draw(v) for n, v in model.named_parameters()}
    end = {n: start[n] + 0.2 * draw(v) for n, v in model.named_parameters()}
    lower = torch.rand(count, generator=generator, dtype=torch.float64) * (1 - width)
    return start, end, lower, lower + width


def exact_loss(model, loss, start, end, t, inputs, target):
    """The loss in float64 at one point of every segment, `(k,)`."""
    point = {n: v.double() + t.view(-1, *[1] * (v.dim() - 1)) * (end[n].double() - v.double()) for n, v in start.items()}
    stored = {n: b.double() if b.is_floating_point() else b for n, b in model.named_buffers()}
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    rows = ({n: v[i] for n, v in point.items()} for i in range(len(t)))
    with torch.no_grad():
        return torch.stack([loss(functional_call(model, {**row, **stored}, (inputs,)), target).double() for row in rows])


def assert_dominated(model, loss, width, seed, inputs, target, dtype):
    model = model.to(dtype).eval()
    generator = torch.Generator().manual_seed(seed)
    start, end, lower, upper = cells(model, generator, width)
    bounds = enclose(model, loss, start, end, lower, upper, inputs, target)
    assert bounds.shape == (3, len(CORNERS)) and bounds.isfinite().all()
    for tau in (-1.0, 1.0, 0.0, *(torch.rand(3, generator=generator) * 2 - 1).tolist()):
        value = exact_loss(model, loss, start, end, (lower + upper) / 2 + tau * (upper - lower) / 2, inputs, target)
        assert (value <= under_corners(bounds.T, tau) * (1 + 1e-13)).all()
    return bounds, value
