"""Fourier transforms: products with a matrix that torch itself gives, one dimension after the other."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dss.base.errors import EnclosureError
from dss.enclosure.registry import rule
from dss.enclosure.rules.arithmetic import add
from dss.enclosure.rules.means import MOST_WEIGHTS, product_with
from dss.enclosure.rules.paired import Pairs, parts_of
from dss.enclosure.rules.shapes import joined
from dss.enclosure.value import Enclosure

Transform = Callable[..., Tensor]


def _transformed(transform: Transform, x: Any, n: int | None, dim: int, norm: str | None) -> Any:
    """A linear map of the entries along one dimension, real or complex, whose matrix is what it makes of the unit vectors."""
    # A half transform takes no heed of imaginary parts.
    parts = parts_of(x) if isinstance(x, Pairs) else (x,)
    size = parts[0].shape[dim]
    if size * (n or size) > MOST_WEIGHTS:
        raise EnclosureError(f"no rule encloses a Fourier transform of so many entries: {size}")
    unit = torch.eye(size, dtype=torch.float64, device=parts[0].device)
    sums: list[Enclosure] | None = None
    for part, factor in zip(parts, (1, 1j)):
        matrix = transform(unit * factor if len(parts) > 1 else unit, n=n, dim=-1, norm=norm)
        sides = [matrix.real, matrix.imag] if matrix.is_complex() else [matrix]
        products = [product_with(part.movedim(dim, -1), side).movedim(-1, dim) for side in sides]
        sums = products if sums is None else [add(one, other) for one, other in zip(sums, products)]
    assert sums is not None
    return Pairs(joined(torch.stack, sums, -1), torch.complex128) if len(sums) == 2 else sums[0]


def _along_one(transform: Transform, x: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
    return _transformed(transform, x, n, dim, norm)


def _along_two(last: Transform, first: Transform, inverse: bool, x: Any, s=None, dim=(-2, -1), norm: str | None = None) -> Any:
    """Along the last dimension and the others, real entries on the outer side."""
    dims = tuple(dim) if dim is not None else tuple(range(len(parts_of(x)[0].shape) if isinstance(x, Pairs) else x.dim()))
    sizes = list(s) if s is not None else [None] * len(dims)
    order = list(zip([first] * (len(dims) - 1) + [last], sizes, dims))
    for transform, n, along in order if inverse else order[::-1]:
        x = _transformed(transform, x, n, along, norm)
    return x


for _name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft"):
    rule(f"fft_{_name}")(partial(_along_one, getattr(torch.fft, _name)))
for _name, _first in {"fft": torch.fft.fft, "ifft": torch.fft.ifft, "rfft": torch.fft.fft, "irfft": torch.fft.ifft}.items():
    _two = partial(_along_two, getattr(torch.fft, _name), _first, _name == "irfft")
    rule(f"fft_{_name}2")(_two)
    rule(f"fft_{_name}n")(lambda x, s=None, dim=None, norm=None, two=_two: two(x, s, dim, norm))
