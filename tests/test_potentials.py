"""Recorded minima, saddles and geodesics are what the functions say."""

import pytest
import torch

import dss


def gradient(objective, point):
    x = torch.tensor([point], dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(objective(x).sum(), x)[0][0]


def test_mueller_brown_is_stationary_at_its_minima_and_saddles():
    surface = dss.MuellerBrown()
    values = (*surface.minimum_values, *surface.saddle_values)
    for point, value in zip((*surface.minima, *surface.saddles), values, strict=True):
        assert gradient(surface, point).norm() < 1e-4
        assert surface(torch.tensor([point])).item() == pytest.approx(value, abs=1e-3)


def test_mueller_brown_saddles_have_one_falling_direction():
    surface = dss.MuellerBrown()
    for point in surface.saddles:
        x = torch.tensor(point, dtype=torch.float64)
        hessian = torch.autograd.functional.hessian(lambda x: surface(x[None]).sum(), x)
        assert (torch.linalg.eigvalsh(hessian) < 0).sum() == 1


def test_the_double_well_has_minima_at_zero_and_a_saddle_at_one():
    well = dss.DoubleWell()
    assert well(torch.tensor(well.minima)).tolist() == [0, 0]
    assert well(torch.tensor([well.saddle])).item() == well.saddle_value
    assert gradient(well, well.saddle).norm() == 0


@pytest.mark.parametrize("threshold", [0.01, 0.04, 0.25])
def test_the_rings_geodesic_is_two_tangents_and_an_arc(threshold):
    inner = 1 - threshold**0.5
    touch = torch.arccos(torch.tensor(inner, dtype=torch.float64))
    angles = torch.linspace(touch.item(), torch.pi - touch.item(), 20001, dtype=torch.float64)
    arc = inner * torch.stack([-angles.cos(), angles.sin()], 1)
    ends = torch.tensor(dss.Ring.minima, dtype=torch.float64)
    path = dss.Path(torch.cat([ends[:1], arc, ends[1:]]))
    assert path.normalized_length == pytest.approx(dss.Ring.geodesic_length(threshold), rel=1e-6)
    middles = (path.beads[:-1] + path.beads[1:]) / 2
    assert dss.Ring()(middles).max() <= threshold * (1 + 1e-6)
