"""Unknowns that entries share: numbered without a clash, cancelled where they meet again, never lost."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dss.enclosure import Enclosure, suited
from dss.enclosure.cells import SIGNS
from dss.enclosure.shared_symbols import run, with_unknowns

F64 = torch.float64


def cell(*center):
    center = torch.tensor(center, dtype=F64)
    return Enclosure(center, torch.full_like(center, 0.5), torch.zeros_like(center))


def test_the_largest_gaps_become_unknowns_and_the_rest_stays():
    gap = torch.tensor([[1.0, 5.0], [3.0, 2.0]], dtype=F64)
    with run(2, count=1):
        signs, left = with_unknowns(None, gap)
    assert signs.shape == (3, 2, 2) and (signs[0] == 0).all()
    assert torch.equal(signs.abs().sum(0) + left, gap) and left.tolist() == [[1.0, 0.0], [0.0, 2.0]]


def test_without_a_run_there_are_only_errors():
    assert F.relu(cell(0.1, -0.2)).signs is None
    with run(0):
        assert F.relu(cell(0.1, -0.2)).signs is None


def test_kinks_are_counted_and_wide_ones_among_them_but_not_maxima():
    x = cell(*torch.linspace(-1, 1, 200).tolist())
    with run(0) as state:
        F.relu(x[70:150]), F.relu(x), F.leaky_relu(x), torch.maximum(x, x + 0.1)
    assert (state.kinks, state.bends) == (3, 2)


@pytest.mark.parametrize("layers", [12, 13])
def test_gaps_are_followed_in_deep_networks_alone(layers):
    net = nn.Sequential(*(part for _ in range(layers) for part in (nn.Linear(3, 3), nn.ReLU())))
    tensors = {name: value.detach() for name, value in net.named_parameters()}
    found = suited(net, F.mse_loss, tensors, (torch.ones(1, 3),), torch.zeros(1, 3))
    assert found == {"signs": SIGNS if layers > 12 else 0, "rough": True, "third": False}


def test_branches_do_not_share_what_they_found_apart():
    with run(1):
        x = cell(0.1)
        one, other = F.relu(x), F.relu(x + 0.01)
        difference = one - other
    assert len(one.signs) == 1 and len(other.signs) == 2 and (other.signs[0] == 0).all()
    assert torch.equal(difference.signs, torch.stack([one.signs[0], -other.signs[1]]))


def test_what_is_shared_cancels_and_an_error_does_not():
    def twice(x):
        y = F.relu(x)
        return (y * 3 - y * 3).extent[1].item()

    with run(1):
        known = twice(cell(0.1))
    assert known < 1e-12 < 0.1 < twice(cell(0.1))


def test_the_range_of_a_parabola_is_exact():
    tau = torch.linspace(-1, 1, 100_001, dtype=F64)
    generator = torch.Generator().manual_seed(0)
    center, slope, bend = torch.randn(3, 200, 1, generator=generator, dtype=F64)
    values = center + slope * tau + bend * (2 * tau**2 - 1)
    low, high = Enclosure(center, slope, torch.zeros_like(center), bend).extent
    for found, exact in ((low, values.amin(1)), (high, values.amax(1))):
        assert torch.allclose(found[:, 0], exact, rtol=0, atol=1e-8)
    assert (low[:, 0] <= values.amin(1) + 1e-15).all() and (high[:, 0] >= values.amax(1) - 1e-15).all()
