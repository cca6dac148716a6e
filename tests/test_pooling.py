"""Max-pooling by slices has the values of torch's own, and gradients are torch's own."""

import itertools

import pytest
import torch
from torch.nn.functional import cross_entropy, max_pool2d

import dss
from dss.objectives.network.pooling import SlicedPooling

SIZES = [(1, 1), (4, 6), (7, 7), (8, 5)]
OPTIONS = [dict(zip(("kernel_size", "stride", "padding", "ceil_mode"), o, strict=True))
           for o in itertools.product((1, 2, 3, (2, 3), 5), (None, 1, 2, (1, 2)), (0, 1), (False, True))]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_pooling_by_slices_has_the_same_bits_whatever_the_window(size):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[0, 0, 0, 0] = torch.nan
    x = x.contiguous(memory_format=torch.channels_last)
    compared = 0
    for options in OPTIONS:
        try:
            expected = max_pool2d(x, **options)
        except RuntimeError:
            with SlicedPooling(), pytest.raises(RuntimeError):
                max_pool2d(x, **options)
            continue
        with SlicedPooling():
            found = max_pool2d(x, **options)
        assert torch.equal(found.nan_to_num(9.0), expected.nan_to_num(9.0)), options
        compared += 1
    assert compared


def test_a_loss_is_the_same_with_and_without_its_gradient_and_is_the_plain_one():
    torch.manual_seed(0)
    net, x, y = dss.DigitsNet().double(), torch.rand(40, 1, 8, 8, dtype=torch.float64), torch.randint(10, (40,))
    objective = dss.NetworkObjective(net, cross_entropy, (x, y))
    points = torch.stack([objective.space.flatten(net.state_dict()) * scale for scale in (1.0, 1.3)])
    with_gradient = objective(points.clone().requires_grad_()).detach()
    assert torch.allclose(objective(points), with_gradient, rtol=1e-12)
    assert torch.allclose(objective(points), objective.plain(points), rtol=1e-12)


def test_pooling_is_taken_by_slices_however_it_is_called_and_never_where_places_are_asked_for(monkeypatch):
    x = torch.randn(1, 1, 6, 6)
    asked = []
    kernel = torch.max_pool2d
    monkeypatch.setattr(torch, "max_pool2d", lambda *args: asked.append(args) or kernel(*args))
    with SlicedPooling():
        torch.nn.MaxPool2d(2)(x), max_pool2d(x, 2)
        _, places = max_pool2d(x, 2, return_indices=True)
    assert not asked and places.shape == (1, 1, 3, 3)


def test_losses_of_many_samples_pool_by_slices_and_gradients_by_torchs_kernel(monkeypatch):
    torch.manual_seed(0)
    net, x, y = dss.DigitsNet(), torch.rand(1200, 1, 8, 8), torch.randint(10, (1200,))
    objective = dss.NetworkObjective(net, cross_entropy, (x, y))
    point = objective.space.flatten(net.state_dict())[None]
    asked = []
    kernel = torch.max_pool2d
    monkeypatch.setattr(torch, "max_pool2d", lambda *args: asked.append(args) or kernel(*args))
    objective(point)
    objective(point)
    assert not asked
    objective.part(40)(point)
    assert len(asked) == 2, "on few samples the kernel is as quick"
    objective(point.clone().requires_grad_()).sum().backward()
    assert len(asked) == 4
