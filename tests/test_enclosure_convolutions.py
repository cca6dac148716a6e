"""A convolution as a product with a matrix, and as a loop over cells: both are torch's convolution."""

import pytest
import torch
import torch.nn.functional as F

from dss.enclosure import Enclosure, lift
from dss.enclosure.rules import convolutions

F64 = torch.float64
GEOMETRIES = {
    "plain": ((2, 3, 5, 4), (4, 3, 3, 2), {}),
    "padded and strided": ((2, 3, 5, 4), (4, 3, 3, 2), {"stride": (2, 1), "padding": [1, 0]}),
    "same": ((2, 3, 5, 4), (4, 3, 3, 3), {"padding": "same"}),
    "dilated groups": ((2, 4, 6, 6), (6, 2, 2, 2), {"dilation": 2, "groups": 2}),
    "wide": ((3, 2, 9, 9), (2, 2, 3, 3), {"padding": 1}),
    "one dimension": ((2, 3, 7), (4, 3, 3), {"padding": 2}),
    "one image": ((3, 5, 5), (4, 3, 3, 3), {"padding": 1}),
}


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


@pytest.mark.parametrize("share", [0.0, 1e9])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_both_ways_are_the_convolution_of_torch(monkeypatch, name, share):
    monkeypatch.setattr(convolutions, "MATRIX_SHARE", share)
    image, window, options = GEOMETRIES[name]
    function = F.conv1d if name == "one dimension" else F.conv2d
    x, w, b = draw(*image), draw(*window, seed=1), draw(window[0], seed=2)
    exact = function(x, w, b, **options)
    for result in (function(lift(x), lift(w), lift(b), **options), function(lift(x), w, b, **options)):
        assert torch.allclose(result.center, exact, rtol=1e-13, atol=1e-13) and (result.error < 1e-11).all()


@pytest.mark.parametrize("share", [0.0, 1e9])
def test_cells_have_weights_of_their_own_and_share_the_images(monkeypatch, share):
    monkeypatch.setattr(convolutions, "MATRIX_SHARE", share)
    x, w = draw(5, 2, 4, 4), draw(3, 6, 2, 3, 3, seed=1)

    def of_cell(weight):
        return torch.vmap(lambda image: F.conv2d(lift(image[None]), Enclosure(weight, 2 * weight, 0 * weight)).slope)(x)

    found = torch.vmap(of_cell)(w)
    exact = torch.stack([F.conv2d(x, 2 * weight) for weight in w])
    assert torch.allclose(found[:, :, 0], exact, rtol=1e-13, atol=1e-13)


def test_a_large_matrix_is_never_made():
    assert convolutions._pays((8, 4, 4), (8, 8, 3, 3), (1, 1, 1, 1))
    assert not convolutions._pays((64, 7, 7), (64, 64, 5, 5), (1, 2, 1, 1))
    assert not convolutions._pays((8, 8, 8), (8, 8, 3, 3), (1, 1, 1, 1))


def test_a_matrix_takes_weights_back_where_strides_would_put_zeros_between_entries():
    strided = ((2, 2), (1, 1), (1, 1), 1)
    assert convolutions._pays_back((8, 8, 8), (16, 8, 3, 3), strided)
    assert not convolutions._pays_back((8, 8, 8), (8, 8, 3, 3), ((1, 1), *strided[1:]))
    assert not convolutions._pays_back((8, 8, 8), (16, 8, 1, 1), ((2, 2), (0, 0), (1, 1), 1))  # few products without it
    assert not convolutions._pays_back((8, 28, 28), (16, 8, 3, 3), strided)
    assert not convolutions._pays_back((256, 8, 8), (256, 256, 3, 3), strided)  # too large


@pytest.mark.parametrize("name", [name for name in GEOMETRIES if name not in ("same", "one image")])
def test_what_float32_loses_of_a_channel_is_bounded_by_its_largest_entries(name):
    image, window, options = GEOMETRIES[name]
    function, groups = F.conv1d if name == "one dimension" else F.conv2d, options.get("groups", 1)
    x, w = draw(*image).abs(), draw(*window, seed=1).abs()
    bound = convolutions._most(groups, x, w)
    assert bound.shape == (image[0], window[0], *[1] * len(image[2:]))
    assert (function(x, w, **options) <= bound * (1 + 1e-14)).all()
    flat = x[(..., *[slice(1)] * len(image[2:]))].expand(image)  # and no larger than it must be
    torch.testing.assert_close(function(flat, w, **options).flatten(2).amax(2), convolutions._most(groups, flat, w).flatten(1))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 3])
def test_weights_are_taken_back_as_autograd_does(dims, kernel, stride, padding):
    generator = torch.Generator().manual_seed(0)
    for size, dilation in ((5, 1), (6, 2), (8, 1)):
        options = ((stride,) + (1,) * (dims - 1), (padding,) * dims, (dilation,) * dims, 1)
        x = torch.randn(2, 3, *(size,) * dims, dtype=torch.float64, generator=generator, requires_grad=True)
        weight = torch.randn(4, 3, *(kernel,) * dims, dtype=torch.float64, generator=generator)
        y = convolutions.CONVOLUTIONS[dims](x, weight, None, *options)
        cotangent = torch.randn(y.shape, dtype=torch.float64, generator=generator)
        (expected,) = torch.autograd.grad((y * cotangent).sum(), x)
        found = convolutions._Transposed.apply(cotangent, weight, options, tuple(x.shape[1:]))
        torch.testing.assert_close(found, expected)
        if dims < 3:  # in three the matrix is large
            torch.testing.assert_close(convolutions._multiplied_back(cotangent, weight, options, tuple(x.shape[1:])), expected)
