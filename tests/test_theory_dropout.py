"""Dropout stability against networks reduced by hand."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

import dss
from dss.theory import dropout_stability
from tests.architectures import ResidualLayerNorm


def objective(model, shape=(4,), n=30):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(n, *shape, generator=generator), torch.randint(3, (n,), generator=generator)
    return dss.NetworkObjective(model, cross_entropy, (x, y))


def point_of(judge, seed=0):
    return torch.randn(judge.space.size, generator=torch.Generator().manual_seed(seed))


def test_one_draw_against_a_network_reduced_by_hand():
    """The same units, dropped by multiplying activations instead of weights."""
    judge = objective(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)))
    point = point_of(judge).double()
    found = dropout_stability(judge, point, keep=0.5, tries=1, seed=7)
    generator = torch.Generator().manual_seed(7)
    masks = []
    for width in (5, 6):  # from the top
        mask = torch.zeros(width).double()
        mask[torch.randperm(width, generator=generator)[: width // 2]] = width / (width // 2)
        masks.insert(0, mask)
    w = judge.space.unflatten(point)
    x, y = judge.data.inputs[0].double(), judge.data.target

    def loss(first, second):
        h = torch.tanh(x @ w["0.weight"].T + w["0.bias"]) * first
        h = torch.relu(h @ w["2.weight"].T + w["2.bias"]) * second
        return cross_entropy(h @ w["4.weight"].T + w["4.bias"], y)

    whole = loss(1, 1)
    expected = torch.stack([(loss(*masks) - whole).abs(), (loss(1, masks[1]) - whole).abs()])
    assert torch.allclose(found, expected)


def test_all_units_kept_change_nothing_and_equal_units_do_not_count():
    judge = objective(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
    point = point_of(judge).double()
    assert dropout_stability(judge, point, keep=1.0, tries=3).item() == 0
    tensors = judge.space.unflatten(point)
    for name in ("0.weight", "0.bias"):
        tensors[name][:] = tensors[name][:1]
    tensors["2.weight"][:] = tensors["2.weight"][:, :1]
    assert dropout_stability(judge, point, keep=0.5, tries=5).item() < 1e-12


def test_wider_networks_of_many_equal_parts_are_more_stable():
    """Random units, outer weights 1 / N: the change falls with N (Shevchenko & Mondelli 2020)."""
    found = []
    x, y = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(50, 1)
    for width in (50, 800):
        model = nn.Sequential(nn.Linear(4, width, bias=False), nn.Tanh(), nn.Linear(width, 1, bias=False))
        judge = dss.NetworkObjective(model, mse_loss, (x, y))
        point = point_of(judge).double()
        judge.space.unflatten(point)["2.weight"][:] = 1 / width
        found.append(dropout_stability(judge, point, tries=40).item())
    assert found[1] < found[0] / 5


def test_convolutions_and_groups_drop_channels():
    layers = [nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)]
    judge = objective(nn.Sequential(*layers), shape=(2, 6, 6))
    found = dropout_stability(judge, point_of(judge), tries=4)
    assert found.shape == (2,) and (found > 0).all()


def test_what_cannot_be_reduced_is_refused():
    judge = objective(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
    for options in ({"keep": 0.0}, {"keep": 1.5}, {"tries": 0}):
        with pytest.raises(dss.InputError):
            dropout_stability(judge, point_of(judge), **options)
    with pytest.raises(dss.InputError, match="a network is needed"):
        dropout_stability(dss.Quadratic([1.0, 1.0]), torch.zeros(2))
    stream = objective(ResidualLayerNorm(), shape=(6,))
    with pytest.raises(dss.InputError, match="through weights alone"):
        dropout_stability(stream, point_of(stream))
