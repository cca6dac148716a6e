"""Convolutions whose weight and input both move."""

import math
import operator
from collections.abc import Callable
from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from dss.enclosure.adjoint import is_number
from dss.enclosure.passes import current
from dss.enclosure.registry import rule
from dss.enclosure.rounding import is_plain_float32
from dss.enclosure.rules.products import Rough, bilinear
from dss.enclosure.rules.shapes import pad
from dss.enclosure.value import Enclosure, lift

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}

MATRIX_SHARE = 1 / 4
"""A convolution is a product with a matrix when at least this share of the matrix is not zero: torch's float64
convolutions of small images run at a quarter of the speed of its products, or less."""

MATRIX_BACK = 4
"""With strides, weights are taken back by a matrix if places of the result are at most so many times those of the window:
otherwise three of four products, or more, are with zeros put between entries."""

MATRIX_SIZE = 2**20
"""The largest matrix of a convolution, in entries."""


def _convolution(dims: int, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Enclosure:
    """A sum over the window and the channels of a group; padding with zeros adds exact terms."""
    if x.dim() == dims + 1:
        return _convolution(dims, x.unsqueeze(0), weight, bias, stride, padding, dilation, groups).squeeze(0)
    stride, dilation = (tuple(part) if isinstance(part, (tuple, list)) else (part,) * dims for part in (stride, dilation))
    if isinstance(padding, str):
        x, padding = pad(x, _same(weight.shape[2:], dilation)) if padding == "same" else x, 0
    padding = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * dims
    options = (stride, padding, dilation, groups)
    bias, window = None if bias is None else lift(bias).reshape(-1, *[1] * dims), math.prod(weight.shape[2:])
    shape = tuple(x.shape[1:])
    if not is_number(lift(weight)):  # made of other weights, which is rare
        return bilinear(partial(_plain, options), x, weight, bias, terms=weight.shape[1] * window)
    dense = _pays(shape, tuple(weight.shape), options)
    function = _multiplied if dense else _looped
    back = _multiplied_back if dense or _pays_back(shape, tuple(weight.shape), options) else _Transposed.apply
    state = current()
    rough = not dense and state is not None and state.rough and is_plain_float32(weight.device)
    return bilinear(partial(function, options), x, weight, bias, terms=weight.shape[1] * window,
                    rough=Rough(partial(_rough, options), partial(_most, groups)) if rough else None,
                    back=lambda cotangent, weight: back(cotangent, weight, options, shape),
                    fan=weight.shape[0] // groups * window)  # fmt: skip


def _same(window: tuple[int, ...], dilation: tuple[int, ...]) -> list[int]:
    """What `F.pad` adds for padding="same": the last dimension first, the odd one after."""
    each = [step * (size - 1) for size, step in zip(window, dilation)][::-1]
    return [side for total in each for side in (total // 2, total - total // 2)]


def _transposed(dims: int, input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1) -> Enclosure:
    """A sum over the window and the channels of a group at most."""
    function = TRANSPOSED[dims]
    bias, window = None if bias is None else lift(bias).reshape(-1, *[1] * dims), math.prod(weight.shape[2:])
    return bilinear(lambda a, b: function(a, b, None, stride, padding, output_padding, groups, dilation), input, weight, bias,
                    terms=weight.shape[0] // groups * window)  # fmt: skip


for _dims in CONVOLUTIONS:
    rule(f"conv{_dims}d")(partial(_convolution, _dims))
    rule(f"conv_transpose{_dims}d")(partial(_transposed, _dims))


def _pays(image: tuple[int, ...], window: tuple[int, ...], options: tuple) -> bool:
    """Whether the matrix is neither too empty nor too large."""
    return math.prod(window[1:]) >= MATRIX_SHARE * math.prod(image) and _places(image, window, options) <= _most_places(
        image, window
    )


def _pays_back(image: tuple[int, ...], window: tuple[int, ...], options: tuple) -> bool:
    """The same for weights that are taken back through a convolution with strides."""
    if math.prod(options[0]) == 1:
        return False
    return _places(image, window, options) <= min(MATRIX_BACK * math.prod(window[2:]), _most_places(image, window))


def _most_places(image: tuple[int, ...], window: tuple[int, ...]) -> float:
    """How many places the result may have for a matrix that is not too large."""
    return MATRIX_SIZE / (math.prod(image) * window[0])


def _places(image: tuple[int, ...], window: tuple[int, ...], options: tuple) -> int:
    """How many places the result has."""
    # One channel of the result, made of one of the image: to ask this of torch's shapes without values imports its compiler.
    return _plain((*options[:-1], 1), torch.zeros(1, 1, *image[1:]), torch.zeros(1, 1, *window[2:])).numel()


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
    matrix, shape = _matrix(weight, options, tuple(x.shape[1:]))
    return (x.flatten(1) @ matrix).unflatten(1, shape)


def _multiplied_back(cotangent: Tensor, weight: Tensor, options: tuple, image: tuple[int, ...]) -> Tensor:
    """Its transpose."""
    return (cotangent.flatten(1) @ _matrix(weight, options, image)[0].T).unflatten(1, image)


def _matrix(weight: Tensor, options: tuple, image: tuple[int, ...]) -> tuple[Tensor, torch.Size]:
    """The matrix, from entries of an image to those of its convolution, and the shape of the latter."""
    table = _table(image, tuple(weight.shape), options).to(weight.device)
    entries = torch.cat([weight.new_zeros(1), weight.flatten()])
    return entries.index_select(0, table.flatten()).view(len(table), -1), table.shape[1:]


def _plain(options: tuple, x: Tensor, weight: Tensor) -> Tensor:
    return CONVOLUTIONS[weight.dim() - 2](x, weight, None, *options)


def _looped(options: tuple, x: Tensor, weight: Tensor) -> Tensor:
    return _Convolution.apply(x, weight, options)


def _rough(options: tuple, x: Tensor, weight: Tensor) -> Tensor:
    """In float32, which is eight times as fast."""
    return _looped(options, x.float(), weight.float()).double()


def _most(groups: int, x: Tensor, weight: Tensor) -> Tensor:
    """A bound on the convolution of entries >= 0, one number for every channel: as if each channel had its largest entry at all places."""
    largest, window = x.flatten(2).amax(2).unflatten(1, (groups, -1)), weight.flatten(2).sum(2).unflatten(0, (groups, -1))
    sums = (window * largest.unsqueeze(2)).sum(3).flatten(1)
    return sums.reshape(*sums.shape, *[1] * (x.dim() - 2))


class _Convolution(torch.autograd.Function):
    """A convolution that under `vmap` loops over the cells: in float64 twice as fast as a grouped one."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, options: tuple) -> Tensor:
        return _plain(options, x, weight)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        pass

    @staticmethod
    def vmap(info, in_dims, x: Tensor, weight: Tensor, options: tuple):
        return _over_cells(info, in_dims, x, weight, lambda a, b: _Convolution.apply(a, b, options))


class _Transposed(torch.autograd.Function):
    """The transpose of a convolution of images of the shape `(channels, ...)`, in the same manner."""

    @staticmethod
    def forward(cotangent: Tensor, weight: Tensor, options: tuple, shape: tuple[int, ...]) -> Tensor:
        stride, padding, dilation, groups = options
        reach = [step * (size - 1) for step, size in zip(dilation, weight.shape[2:])]
        if groups == 1 and all(map(operator.ge, reach, padding)):
            # A convolution too, which torch does two to three times as fast.
            ends = [size + 2 * pad - window for size, pad, window in zip(shape[1:], padding, reach)]
            turned = weight.flip(tuple(range(2, weight.dim()))).transpose(0, 1)
            options = ((1,) * len(stride), tuple(map(operator.sub, reach, padding)), dilation, 1)
            if not any(reach):  # zeros stay zeros
                return _with_gaps(_plain(options, cotangent, turned), stride, ends)
            return _plain(options, _with_gaps(cotangent, stride, ends), turned)
        image = cotangent.new_empty(()).expand(*cotangent.shape[: cotangent.dim() - len(shape)], *shape)
        return torch.ops.aten.convolution_backward(cotangent, image, weight, None, stride, padding, dilation, False, (0,),
                                                   groups, (True, False, False))[0]  # fmt: skip

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        pass

    @staticmethod
    def vmap(info, in_dims, cotangent: Tensor, weight: Tensor, options: tuple, shape: tuple[int, ...]):
        return _over_cells(info, in_dims, cotangent, weight, lambda a, b: _Transposed.apply(a, b, options, shape))


def _with_gaps(images: Tensor, stride: tuple[int, ...], sizes: list[int]) -> Tensor:
    """Images of the given sizes with zeros between entries `stride` apart."""
    if math.prod(stride) > 1:
        for at in range(len(stride)):
            images = images.unsqueeze(3 + 2 * at)
        images = F.pad(images, [side for step in stride[::-1] for side in (0, step - 1, 0, 0)])
        for at in range(len(stride)):
            images = images.flatten(2 + at, 3 + at)
    images = images[(..., *map(slice, sizes))]
    missing = [size - known for size, known in zip(sizes, images.shape[2:])]
    return F.pad(images, [side for more in missing[::-1] for side in (0, more)]) if any(missing) else images


def _over_cells(info, in_dims: tuple, images: Tensor, weight: Tensor, function: Callable) -> tuple[Tensor, int]:
    """Every cell by itself; with one weight for all, their images at once."""
    images_at, weight_at = in_dims[:2]
    if weight_at is None:
        rows = images.movedim(images_at, 0)
        return function(rows.flatten(0, 1), weight).unflatten(0, rows.shape[:2]), 0
    rows = (part.movedim(at, 0) if at is not None else [part] * info.batch_size
            for part, at in zip((images, weight), in_dims))  # fmt: skip
    each = [function(a, b) for a, b in zip(*rows)]
    return each[0].unsqueeze(0) if len(each) == 1 else torch.stack(each), 0  # a copy less
