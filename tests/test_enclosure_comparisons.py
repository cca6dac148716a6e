"""Masks of what moves: no point leaves what is chosen by them, and nothing but a choice is made of them."""

import pytest
import torch
import torch.nn.functional as F
from enclosure_points import CELLS, F64, check
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import dss
from dss.enclosure import Enclosure, StandIn
from dss.enclosure.passes import under_way

MATRIX = (4, 5)
GIVEN = torch.tensor([True, False, True, True, False])
HALF = torch.full((5,), 0.5, dtype=F64)


def _overwritten(x):
    y = x * 1
    y[y < 0] = -0.25
    y[:, 1] = 0.5
    return y


CHOICES = {
    "where": lambda x: torch.where(x > 0, x, 0.125 * x), "where of three": lambda x: torch.where(x > 1, x, torch.where(x < -1, -x, x * x)), "masked_fill": lambda x: x.masked_fill(x < 0.25, 0.5),
    "product": lambda x: x * (x >= 0), "product of a cast": lambda x: x * (x <= 0).to(x.dtype), "and": lambda x: torch.where((x > -1) & (x < 1), x, 2.0), "or": lambda x: torch.where((x > 1) | (x < -1), x, -x),
    "not": lambda x: x * ~(x > 0.5), "by name": lambda x: torch.where(torch.logical_or(torch.gt(x, 1), torch.logical_and(x.lt(0), GIVEN)), x, x.exp() / 8), "of two": lambda x: x * (x > x.flip(1)),
    "with a constant": lambda x: x * torch.logical_and(x > 0, torch.tensor([2, 0, 1, 1, 0])), "number on the left": lambda x: torch.where(GIVEN.to(F64) / 2 > x, x, 3.0), "count": lambda x: (x > 0).sum(1), "mask alone": lambda x: (x > 0.5).double(),
    "setitem": _overwritten, "moved mask": lambda x: x[:, :4] * (x > 0).reshape(5, 4).t()[:, :4].unsqueeze(0)[0], "huber": lambda x: torch.where(x.abs() < 1, x * x / 2, x.abs() - 0.5),
    "sign": torch.sign, "sgn": lambda x: x * torch.sgn(x), "heaviside": lambda x: torch.heaviside(x, HALF), "round": torch.round, "floor": lambda x: torch.floor(x * 4), "ceil": torch.ceil, "trunc": torch.trunc, "fix": torch.fix,
    "frac": torch.frac, "remainder": lambda x: torch.remainder(x, 0.5), "negative remainder": lambda x: torch.remainder(x, -0.5), "fmod": lambda x: torch.fmod(x, 2), "straight through": lambda x: x + (torch.round(x * 4) / 4 - x).detach(),
    "percent": lambda x: x % 0.75,
}  # fmt: skip


@pytest.mark.parametrize("name", CHOICES)
@given(**CELLS, scale=st.sampled_from([2.0**-10, 1.0, 4.0, 32.0]))
@settings(max_examples=12, deadline=None)
def test_no_point_leaves_a_choice(name, seed, scale, **options):
    check(CHOICES[name], [MATRIX], seed, scale=scale, **options)


def test_the_side_of_a_mask_that_is_out_of_reach_plays_no_part():
    x = torch.tensor([-2.0, 3.0], dtype=F64)
    found = torch.where(StandIn(Enclosure(x, torch.full_like(x, 0.5), x * 0), F64) > 0, torch.inf, 7.0)
    assert found.value.center.tolist() == [7.0, torch.inf] and found.value.error.tolist() == [0.0, 0.0]


def _indexed(x):
    return x[(x > 0).long()[0]]


REFUSED = {
    "bool": lambda x: x if x[0, 0] > 0 else -x, "any": lambda x: x if (x > 0).any() else -x, "item": lambda x: x * (x > 0)[0, 0].item(), "index": lambda x: x[x > 0], "place": _indexed,
    "sum of masks": lambda x: ((x > 0) + (x > 1)).double(), "not of numbers": torch.logical_not, "equal": lambda x: x * (x == 0), "isnan": lambda x: torch.where(torch.isnan(x), 0.0, x), "mask of a mask": lambda x: x * ((x > 0) == (x > 1)),
    "bits": lambda x: x * ((x > 0).long() & 1), "decimals": lambda x: torch.round(x, decimals=2), "remainder of what moves": lambda x: torch.remainder(x, x + 5), "nonzero": lambda x: torch.nonzero(x > 0).double(),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_choice_entry_by_entry_is_refused(name):
    x = torch.arange(8, dtype=F64).reshape(2, 4) - 3.5
    with pytest.raises(dss.EnclosureError, match="no rule encloses"), under_way():
        REFUSED[name](StandIn(Enclosure(x, torch.full_like(x, 0.1), x * 0), F64))


class Chosen(nn.Module):
    """A network whose activation is written with a mask."""

    def __init__(self, activation):
        super().__init__()
        self.first, self.last, self.activation = nn.Linear(6, 12), nn.Linear(12, 3), activation

    def forward(self, x):
        return self.last(self.activation(self.first(x)))


@pytest.mark.parametrize(
    "activation", [lambda h: torch.where(h > 0, h, 0.1 * h), lambda h: h * (h > 0), lambda h: torch.round(h * 2) / 2]
)
def test_a_network_with_masks_is_bracketed_around_its_largest_loss(activation):
    torch.manual_seed(0)
    data = (torch.randn(40, 6), torch.randint(3, (40,)))
    ends = [Chosen(activation).double().state_dict() for _ in range(2)]
    judge = dss.NetworkObjective(Chosen(activation).double(), F.cross_entropy, data)
    beads = torch.stack([judge.flatten(end) for end in ends])
    *_, bracket = dss.prove(judge, beads, tolerance=0.02)
    grid = judge.plain(beads[0] + torch.linspace(0, 1, 4001, dtype=F64)[:, None] * (beads[1] - beads[0]))
    assert bracket.verdict.name == "BRACKETED" and grid.max() <= bracket.upper <= 1.03 * grid.max()
