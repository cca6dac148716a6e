"""Entries that a mask shuts out, by -inf, -1e9 or the least float, lend those that stay neither rounding nor NaN."""

import math

import pytest
import torch
import torch.nn.functional as F
from enclosure_points import CELLS, F64, check
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dss.enclosure import Enclosure, enclose

LEAST = torch.finfo(torch.float32).min
SHUT = torch.ones(4, 4, dtype=torch.bool).triu(1)
NUMBERS = {"-inf": -math.inf, "-1e9": -1e9, "least": LEAST}
RULES = {
    "added": lambda x, n: (x + torch.zeros(4, 4, dtype=F64).masked_fill(SHUT, n)).softmax(1),
    "filled": lambda x, n: x.masked_fill(SHUT, n).softmax(1),
    "chosen and added": lambda x, n: (torch.where(SHUT, torch.tensor(n, dtype=F64), x) + x.T).softmax(1),
    "filled and scaled": lambda x, n: (x.masked_fill(SHUT, n) / 7 * 3).softmax(1),
    "filled and scaled by what moves": lambda x, n: (x.masked_fill(SHUT, n) * (x[0, 0] ** 2 + 9)).softmax(1),
    "scaled by one for all": lambda x, n: (x.masked_fill(SHUT, n) * torch.tensor(0.25, dtype=F64)).softmax(1),
    "largest": lambda x, n: x.masked_fill(SHUT, n).amax(1),
    "largest of two": lambda x, n: torch.maximum(x.masked_fill(SHUT, n), x * x),
    "pooled": lambda x, n: F.max_pool1d(x.masked_fill(SHUT, n), 3, 1, 1)[:, 0],
    "at least": lambda x, n: torch.max(x, torch.tensor(n, dtype=F64)).softmax(1),
    "clamped": lambda x, n: x.clamp(min=n, max=-n),
    "clamped from above": lambda x, n: torch.minimum(x.clamp(max=-n), torch.tensor(-n, dtype=F64)).relu(),
    "clamped by tensors": lambda x, n: x.clamp(torch.tensor(n, dtype=F64), torch.tensor(-n, dtype=F64)),
    "sum of exponentials": lambda x, n: (x.masked_fill(SHUT, n) - x.amax(1, keepdim=True)).exp().sum(1),
    "gates": lambda x, n: x.masked_fill(SHUT, n).sigmoid() * x,
    "turned": lambda x, n: (-x).masked_fill(SHUT, -n).neg().view(2, 8).view(4, 4).T.softmax(0),
    "parts": lambda x, n: torch.cat([part + 1 for part in x.masked_fill(SHUT, n).split(2, 0)]).softmax(1),
    "written": lambda x, n: _written(x * 1, n).log_softmax(1).tril(),
    "attention": lambda x, n: F.scaled_dot_product_attention(x, x.T, x, (x * x).tril() + torch.zeros(4, 4, dtype=F64).masked_fill(SHUT, n)),
    "entropy": lambda x, n: torch.logsumexp(x.masked_fill(SHUT, n) + x, 1),
}  # fmt: skip


def _written(x, number):
    x[SHUT] = number
    return x + x.T.triu()


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("name", RULES)
@given(**CELLS, scale=st.sampled_from([2.0**-10, 1.0, 4.0]))
@settings(max_examples=8, deadline=None)
def test_no_point_leaves_what_is_made_of_masked_entries(name, number, seed, scale, **options):
    check(lambda x: RULES[name](x, NUMBERS[number]), [(4, 4)], seed, scale=scale, **options)


class Attention(nn.Module):
    """One head whose scores are masked in one of the ways that models have."""

    def __init__(self, way, number):
        super().__init__()
        self.way, self.number, self.scores, self.out = way, number, nn.Linear(3, 4), nn.Linear(3, 2)
        self.cap = nn.Parameter(torch.tensor(1.5))

    def forward(self, x, part):
        scores = self.scores(x)
        shut = part[:, None, :] == 0
        if self.way == "added":
            scores = 2 * torch.tanh(scores / 2) + (1.0 - part[:, None, :]) * self.number
        elif self.way == "twice":
            causal = torch.ones(4, 4, dtype=torch.bool).tril()
            scores = torch.where(causal, scores, torch.tensor(self.number)) + torch.where(shut, self.number, 0.0)
        else:
            scores = scores.masked_fill(shut, self.number) * self.cap
        return self.out(scores.softmax(-1) @ x).mean(1)


def gaps(way, number, widths):
    """How far bounds lie above the largest loss on a grid of each cell, which they must not fall below."""
    generator = torch.Generator().manual_seed(0)
    model = Attention(way, number).double()
    draw = lambda *shape: torch.randn(shape, generator=generator, dtype=F64)  # noqa: E731
    start = {name: draw(*part.shape) for name, part in model.named_parameters()}
    end = {name: part + 0.3 * draw(*part.shape) for name, part in start.items()}
    x, target, part = draw(5, 4, 3), torch.arange(5) % 2, (torch.arange(4) <= torch.arange(5)[:, None]).double()
    for width in widths:
        lower, upper = (torch.tensor([0.5 + side * width / 2], dtype=F64) for side in (-1, 1))
        rows = ({name: each[None] for name, each in tensors.items()} for tensors in (start, end))
        bound = enclose(model, F.cross_entropy, *rows, lower, upper, (x, part), target).amax().item()
        worst = max(_loss(model, start, end, t, x, part, target) for t in torch.linspace(lower.item(), upper.item(), 33))
        assert bound >= worst
        yield bound - worst


def _loss(model, start, end, t, x, part, target):
    point = {name: torch.lerp(start[name], end[name], t.double()) for name in start}
    return F.cross_entropy(torch.func.functional_call(model, point, (x, part)), target).item()


@pytest.mark.parametrize("number", [-1e4, -1e9, LEAST])
@pytest.mark.parametrize("way", ["added", "twice", "filled"])
def test_gaps_of_masked_attention_shrink_with_the_cell(way, number):
    wide, narrow = gaps(way, number, (2.0**-3, 2.0**-5))
    assert narrow < wide / 4 < 1


@pytest.mark.parametrize("number", NUMBERS.values())
def test_a_limit_that_is_never_reached_changes_nothing(number):
    x = Enclosure(
        torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=F64), *torch.full((2, 2, 3), 0.1, dtype=F64)
    )
    limit = torch.tensor(number, dtype=F64)
    for found in (x.clamp(number, -number), x.clamp(limit, -limit), torch.maximum(x, limit), torch.minimum(x, -limit)):
        assert torch.equal(found.center, x.center) and torch.equal(found.error, x.error)
