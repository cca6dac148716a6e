"""The rounding of sums, cells and means is enclosed, against exact fractions."""

import math
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dss.enclosure import lift, weighted_mean
from dss.enclosure.cells import moving


def test_the_rounding_of_a_dot_product_is_enclosed_against_exact_fractions():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 200, generator=generator, dtype=torch.float64) * 10 ** torch.linspace(-8, 8, 200)
    w = torch.randn(1, 200, generator=generator, dtype=torch.float64)
    x[:, 100:] = -x[:, :100] * w[:, :100] / w[:, 100:] * (1 + 1e-15)  # nearly everything cancels
    result = F.linear(lift(x), lift(w))
    for row, center, error in zip(x, result.center[:, 0], result.error.expand(50, 1)[:, 0], strict=True):
        exact = sum(Fraction(a.item()) * Fraction(b.item()) for a, b in zip(row, w[0], strict=True))
        assert abs(exact - Fraction(center.item())) <= Fraction(error.item())


@pytest.mark.parametrize("terms", [1, 3])
def test_the_rounding_of_the_last_addition_is_enclosed(terms):
    x, w, bias = torch.full((1, terms), 1 / 3), torch.full((1, terms), 1 / 7), torch.tensor([1e6 / 9])
    result = F.linear(lift(x.double() * 1e-9), lift(w.double()), lift(bias.double()))
    exact = Fraction(bias.double().item()) + terms * Fraction((x.double() * 1e-9)[0, 0].item()) * Fraction(w[0, 0].item())
    off = abs(exact - Fraction(result.center.item()))
    assert 0 < off <= Fraction(result.error.item())


@given(st.integers(0, 2**31), st.floats(0, 1), st.floats(-12, 0))
@settings(max_examples=30, deadline=None)
def test_cells_of_weights_contain_the_exact_points(seed, lower, power):
    generator = torch.Generator().manual_seed(seed)
    start, end = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    upper = min(1.0, lower + 10**power)
    cell = moving(start, end, *torch.tensor([lower, upper], dtype=torch.float64))
    for t, tau in ((lower, -1), (upper, 1)):
        for i in range(5):
            exact = Fraction(start[i].item()) + Fraction(t) * (Fraction(end[i].item()) - Fraction(start[i].item()))
            line = Fraction(cell.center[i].item()) + tau * Fraction(cell.slope[i].item())
            # Slopes are a little too steep on purpose: the point is reached inside [-1, 1], within the steepness.
            assert abs(exact - line) <= Fraction(cell.error.item()) * 2 + abs(Fraction(cell.slope[i].item())) * Fraction(1e-11)


@pytest.mark.parametrize("gap", [1.0, 30.0, 36.5, 40.0, 200.0])
def test_a_loss_smaller_than_the_rounding_of_its_logarithm_is_not_lost(gap):
    logits, label = torch.tensor([[gap, 0.0]], dtype=torch.float64), torch.tensor([0])
    loss = math.log1p(math.exp(-gap))
    shares = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    for result in (F.cross_entropy(lift(logits), label), F.cross_entropy(lift(logits), shares)):
        assert loss <= min(side.item() for side in result.ceiling) <= max(side.item() for side in result.ceiling) < loss + 1e-10


def test_weighted_mean_is_rounded_up():
    bounds = torch.rand(7, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.tensor([3, 1, 4, 1, 5, 9, 2])
    mean = weighted_mean(bounds, weights)
    for i in range(3):
        exact = sum(Fraction(b.item()) * int(w) for b, w in zip(bounds[:, i, 0], weights, strict=True)) / 25
        assert exact <= Fraction(mean[i, 0].item()) <= exact + Fraction(1, 10**12)
