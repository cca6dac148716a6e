"""The parabola that stands for a ReLU along a cell: attacked with random ranges of every scale, and compared with what a number leaves."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from dss.enclosure.rules import entropy
from dss.enclosure.rules.parabolas import bow
from dss.enclosure.value import CORNERS, Enclosure

F64 = torch.float64


def between(low, high, count, generator):
    return low + (high - low) * torch.rand(count, generator=generator, dtype=F64)


def enclosures(generator, count=4000):
    """Ranges around kinks: scales from 1e-12 to 1e8, some that touch the kink at 1e-9 of their reach, some that do not move."""
    scale = 10 ** between(-12, 8, count, generator)
    slope = between(-1, 1, count, generator) * scale * 10 ** (-4 * between(-2, 1, count, generator).clamp(min=0))
    slope[: count // 20] = 0.0
    loose = scale * 10 ** between(-8, 0, count, generator) * (between(0, 1, count, generator) < 0.9)
    reach = slope.abs() + loose
    side = torch.where(between(-1, 1, count, generator) < 0, -1.0, 1.0)
    grazing = side * reach * (1 + between(-1, 1, count, generator) * 10 ** between(-9, 0, count, generator))
    center = torch.where(between(0, 1, count, generator) < 0.2, grazing, 1.2 * between(-1, 1, count, generator) * reach)
    bend = loose * between(-0.5, 0.5, count, generator)
    return Enclosure(center, slope, loose - bend.abs(), bend)


def size_of(z):
    return z.center.abs() + z.slope.abs() + z.bend.abs() + z.error


def places(z, generator):
    """tau and the share of the error: ends, kinks for every error, and at random; and the error at which a place is the kink."""
    for tau, share in _places(z, generator):
        yield tau, share
        yield tau, (-(z.center + z.slope * tau + z.bend * (2 * tau * tau - 1)) / z.error).nan_to_num(0.0).clamp(-1, 1)


def _places(z, generator):
    for side, share in itertools.product((-1.0, 1.0), (-1.0, 0.0, 1.0)):
        yield torch.full_like(z.center, side), share
        yield (-(z.center + share * z.error) / z.slope).nan_to_num(0.0).clamp(-1, 1), side
    for _ in range(20):
        yield between(-1, 1, len(z.center), generator), between(-1, 1, len(z.center), generator)


@pytest.mark.parametrize("seed", range(6))
def test_no_point_of_a_relu_lies_farther_off_than_the_error(seed):
    generator = torch.Generator().manual_seed(seed)
    z = enclosures(generator)
    part = bow(z, size_of(z))
    assert z.bend is not None
    assert ((part.share >= 0) & (part.share <= 1)).all()
    for tau, share in places(z, generator):
        q = 2 * tau * tau - 1
        value = z.center + z.slope * tau + z.bend * q + share * z.error
        found = part.share * value + part.center + part.slope * tau + part.bend * q
        # What this test itself loses in float64.
        assert ((value.clamp(min=0) - found).abs() <= part.error + 1e-14 * size_of(z)).all()


def test_it_is_exact_where_the_kink_is_out_of_reach():
    center = torch.tensor([1.0, -1.0, 2.0, -5.0], dtype=F64)
    z = Enclosure(center, torch.full_like(center, 0.5), torch.full_like(center, 0.4))
    part = bow(z, torch.tensor(10.0, dtype=F64))
    assert part.share.tolist() == [1, 0, 1, 0]
    assert all((x == 0).all() for x in (part.center, part.slope, part.bend, part.error))


@pytest.mark.parametrize("place", [0.0, 0.2, 0.4, 0.6, 0.8])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_along_a_line_the_error_is_what_a_dense_grid_finds(place, sign):
    tau, zero = torch.linspace(-1, 1, 20_001, dtype=F64), torch.zeros(1, dtype=F64)
    part = bow(Enclosure(zero + place, zero + sign, zero), torch.ones((), dtype=F64))
    z = place + sign * tau
    left = z.clamp(min=0) - part.share * z - part.slope * tau - part.bend * (2 * tau * tau - 1)
    assert part.error.item() == pytest.approx((left.max() - left.min()).item() / 2, rel=2e-3)
    # The number that stands for the V of relu(z) - share z leaves half of its height.
    assert part.error < (0.3 + 0.6 * place) * (1 - place**2) / 4


@pytest.mark.parametrize("loose", [0.0, 0.1, 0.3, 1.0, 100.0])
def test_what_it_leaves_is_never_more_than_a_number_would(loose):
    center = torch.linspace(-1 - loose, 1 + loose, 101, dtype=F64)
    ones = torch.ones_like(center)
    part, reach = bow(Enclosure(center, ones, loose * ones), torch.ones((), dtype=F64)), 1 + loose
    assert (part.error <= (reach**2 - center**2) / (4 * reach) + 1e-5 * reach).all()


def best_error(place, loose, share):
    """The least error of any parabola in tau beside the share of place + tau + W, |W| <= loose: by linear programming on a grid."""
    tau, rows, sides = np.linspace(-1, 1, 201), [], []
    powers = np.stack([np.ones_like(tau), tau, 2 * tau**2 - 1], 1)
    for shift in (-loose, loose, np.clip(-(place + tau), -loose, loose)):
        z = place + tau + shift
        left = np.maximum(z, 0) - share * z
        rows += [np.c_[sign * powers, -np.ones_like(tau)] for sign in (1, -1)]
        sides += [left, -left]
    return linprog([0, 0, 0, 1], np.concatenate(rows), np.concatenate(sides), bounds=[(None, None)] * 4).x[3]


@pytest.mark.parametrize("loose", [0.0, 0.05, 0.2, 0.5])
@pytest.mark.parametrize("place", [0.0, 0.2, 0.5, 0.8])
def test_no_parabola_leaves_much_less(place, loose):
    one = torch.ones(1, dtype=F64)
    part = bow(Enclosure(place * one, one, loose * one), torch.ones((), dtype=F64))
    best = best_error(place, loose, part.share.item())
    assert 0.999 * best <= part.error.item() <= 1.2 * best + 1e-4


def test_entries_that_do_not_move_are_known_as_well_as_a_number_is():
    center, zero = torch.tensor([0.0, 0.0, 1.0, -0.5], dtype=F64), torch.zeros(4, dtype=F64)
    part = bow(Enclosure(center, zero, torch.tensor([0.0, 1.0, 0.5, 1.0], dtype=F64)), torch.zeros((), dtype=F64))
    assert (part.slope == 0).all() and (part.bend == 0).all()
    torch.testing.assert_close(part.error, torch.tensor([0, 0.25, 0, 0.1875], dtype=F64), rtol=1e-4, atol=1e-19)


def test_what_is_not_known_stays_unknown():
    nan, inf, one = torch.tensor([torch.nan]), torch.tensor([torch.inf]), torch.ones(1, dtype=F64)
    for z in (Enclosure(nan.double(), one, one), Enclosure(one, one, inf.double()), Enclosure(one, inf.double(), one)):
        assert not (bow(z, torch.ones((), dtype=F64)).error < torch.inf).any() or bow(z, torch.ones(())).share.isnan().any()


def test_all_corners_at_once_are_the_corners_one_by_one(monkeypatch):
    parts = torch.randn(4, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for bend in (None, parts[3]):
        x, label = Enclosure(parts[0], parts[1], parts[2].abs(), bend), torch.tensor([3, 0])
        assert torch.equal(x.corners, torch.stack([x.at(corner) for corner in CORNERS]))
        together = entropy.cross_entropy(x, label, reduction="none").ceiling
        monkeypatch.setattr(entropy, "TOGETHER", 0)
        one_by_one = entropy.cross_entropy(x, label, reduction="none").ceiling
        monkeypatch.undo()
        torch.testing.assert_close(torch.stack(together), torch.stack(one_by_one), rtol=1e-14, atol=0)
