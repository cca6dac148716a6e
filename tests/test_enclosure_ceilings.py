"""Losses that are weighed, chosen and divided by hand are bounded as tightly as torch's own reductions, and never too low."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

import dss
from dss.enclosure import enclose

F64 = torch.float64
N, LENGTH = 6, 5
X = torch.randn(N, LENGTH, 4, generator=torch.Generator().manual_seed(0), dtype=F64)
Y = torch.randint(3, (N, LENGTH), generator=torch.Generator().manual_seed(1))
KEPT = torch.arange(LENGTH) < torch.tensor([5, 3, 2, 5, 1, 4])[:, None]
WEIGHTS = torch.rand(N, LENGTH, generator=torch.Generator().manual_seed(2), dtype=F64)


def each(output, y):
    return F.cross_entropy(output.transpose(1, 2), y[..., 0].long(), reduction="none")


def by_torch(output, y):
    kept = torch.where(y[..., 1] > 0, y[..., 0], -100.0).long()
    return F.cross_entropy(output.transpose(1, 2), kept, ignore_index=-100)


LOSSES = {
    "masked": lambda o, y: (each(o, y) * y[..., 1]).sum() / y[..., 1].sum(),
    "mask first": lambda o, y: ((y[..., 1] > 0) * each(o, y)).sum() / y[..., 1].sum(),
    "chosen": lambda o, y: torch.where(y[..., 1] > 0, each(o, y), 0.0).sum() / y[..., 1].sum(),
    "filled": lambda o, y: each(o, y).masked_fill(y[..., 1] == 0, 0.0).sum() / y[..., 1].sum(),
    "mean and count": lambda o, y: by_torch(o, y) * y[..., 1].sum() / y[..., 1].sum(),
    "divided apart": lambda o, y: (each(o, y) / torch.where(y[..., 1] > 0, y[..., 1].sum(-1, keepdim=True), torch.inf)).sum(),
}
OTHERS = {
    "weighed": lambda o, y: (each(o, y) * y[..., 2]).mean(),
    "either sign": lambda o, y: (each(o, y) * (y[..., 2] - 0.5)).sum(),
    "divided by either sign": lambda o, y: (each(o, y) / (y[..., 2] - 0.5)).mean(),
    "against another": lambda o, y: torch.where(y[..., 1] > 0, each(o, y), o.square().mean(-1)).mean(),
}


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.body(x).tanh())


def gap(loss, width):
    """Bound minus the largest loss on a grid; one sample after another, as bounds are means over samples."""
    model, y = Head().double(), torch.stack([Y.double(), KEPT.double(), WEIGHTS], -1)
    start = {name: p.detach()[None] for name, p in model.named_parameters()}
    draw = torch.Generator().manual_seed(3)
    end = {name: p + 0.5 * torch.randn(p.shape, generator=draw, dtype=F64) for name, p in start.items()}
    lower = torch.tensor([0.5 - width / 2], dtype=F64)
    bound = enclose(model, loss, start, end, lower, lower + width, X, y).amax().item()
    losses = []
    for t in torch.linspace(lower.item(), lower.item() + width, 65, dtype=F64):
        point = {name: torch.lerp(start[name][0], end[name][0], t) for name in start}
        each_sample = zip(functional_call(model, point, (X,)).split(1), y.split(1), strict=True)
        losses.append(torch.stack([loss(*sample) for sample in each_sample]).mean().item())
    assert bound >= max(losses) - 1e-13
    return bound - max(losses)


@pytest.mark.parametrize("width", [0.5, 1 / 16])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_reduced_by_hand_is_bounded_like_torchs_own(name, width):
    assert gap(LOSSES[name], width) <= 1.01 * gap(by_torch, width) + 1e-9


@pytest.mark.parametrize("width", [1.0, 0.25, 1 / 16])
@pytest.mark.parametrize("name", OTHERS)
def test_weights_of_any_sign_bound_from_above(name, width):
    assert gap(OTHERS[name], width) < 20 * width


def test_gaps_of_weighed_losses_are_of_second_order_at_least():
    assert gap(OTHERS["weighed"], 1 / 64) < gap(OTHERS["weighed"], 1 / 16) / 12


SIGNED = {
    "mean": lambda value: lambda o, y: (o * 0).sum() + value,
    "pair": lambda value: lambda o, y: ((o * 0).sum() + value * len(y), torch.tensor(len(y))),
    "products": lambda value: lambda o, y: ((o * 0).square().sum() + 1) * value / 3 * 3,
}


@pytest.mark.parametrize("value", [-5.0, 5.0, -1e-8])
@pytest.mark.parametrize("name", SIGNED)
def test_a_number_of_either_sign_lies_between_its_bounds(name, value):
    objective = dss.NetworkObjective(Head(), SIGNED[name](value), (X.float(), Y.float()))
    point = objective.flatten(Head().state_dict())[None]
    t = torch.full((1,), 0.5, dtype=F64)
    floor, top = objective.floor(point, point + 1, t).item(), objective.enclose(point, point + 1, t, t).max().item()
    assert floor <= value <= top and top - floor <= 1e-5 * abs(value)
