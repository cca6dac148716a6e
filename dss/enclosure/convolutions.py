"""Convolutions whose weight and input both move."""

import math
from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from dss.enclosure.products import bilinear
from dss.enclosure.value import Enclosure, lift, rule

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d}

MATRIX_SHARE = 1 / 4
"""A convolution is a product with a matrix when at least this share of the matrix is not zero: torch's float64
convolutions of small images run at a quarter of the speed of its products, or less."""

MATRIX_SIZE = 2**20
"""The largest matrix of a convolution, in entries."""


def _convolution(dims: int, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Enclosure:
    """A sum over the window and the channels of a group; padding with zeros adds exact terms."""
    options = tuple(tuple(part) if isinstance(part, list) else part for part in (stride, padding, dilation, groups))
    bias, terms = 0.0 if bias is None else lift(bias).reshape(-1, *[1] * dims), math.prod(weight.shape[1:])
    batched = x.dim() == dims + 2
    function = _multiplied if batched and _pays(tuple(x.shape[1:]), tuple(weight.shape), options) else _looped
    return bilinear(partial(function, options), x, weight, bias, terms=terms)


for _dims in CONVOLUTIONS:
    rule(f"conv{_dims}d")(partial(_convolution, _dims))


def _pays(image: tuple[int, ...], window: tuple[int, ...], options: tuple) -> bool:
    """Whether the matrix is neither too empty nor too large."""
    shapes = (torch.empty(shape, device="meta") for shape in (image, window))
    entries = math.prod(image) * CONVOLUTIONS[len(image) - 1](*shapes, None, *options).numel()
    return math.prod(window[1:]) >= MATRIX_SHARE * math.prod(image) and entries <= MATRIX_SIZE


@lru_cache(maxsize=16)
def _table(image: tuple[int, ...], window: tuple[int, ...], options: tuple) -> Tensor:
    """Which weight, counted from 1, leads from an entry of an image to one of its convolution; 0 for none.

    The convolution of images with a single 1, by weights that are their own numbers.
    """
    weights = torch.arange(1, math.prod(window) + 1, dtype=torch.float64).view(window)
    ones = torch.eye(math.prod(image), dtype=torch.float64).unflatten(1, image)
    return CONVOLUTIONS[len(image) - 1](ones, weights, None, *options).long()


def _multiplied(options: tuple, x: Tensor, weight: Tensor) -> Tensor:
    """A convolution as a product with a matrix; the zeros in it neither change a sum nor its rounding."""
    table = _table(tuple(x.shape[1:]), tuple(weight.shape), options).to(x.device)
    entries = torch.cat([weight.new_zeros(1), weight.flatten()])
    matrix = entries.index_select(0, table.flatten()).view(len(table), -1)
    return (x.flatten(1) @ matrix).unflatten(1, table.shape[1:])


def _looped(options: tuple, x: Tensor, weight: Tensor) -> Tensor:
    return _Convolution.apply(x, weight, options)


class _Convolution(torch.autograd.Function):
    """A convolution that under `vmap` loops over the cells: in float64 twice as fast as a grouped one."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, options: tuple) -> Tensor:
        return CONVOLUTIONS[weight.dim() - 2](x, weight, None, *options)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        pass

    @staticmethod
    def vmap(info, in_dims, x: Tensor, weight: Tensor, options: tuple):
        x_at, weight_at = in_dims[:2]
        if weight_at is None:  # one weight for all: more images
            rows = x.movedim(x_at, 0)
            return _Convolution.apply(rows.flatten(0, 1), weight, options).unflatten(0, rows.shape[:2]), 0
        rows = (part.movedim(at, 0) if at is not None else [part] * info.batch_size
                for part, at in zip((x, weight), in_dims))  # fmt: skip
        return torch.stack([_Convolution.apply(a, b, options) for a, b in zip(*rows)]), 0
