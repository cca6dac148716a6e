"""Complex numbers as pairs of real ones: rotary embeddings as Meta's Llama has them, spectra of Fourier transforms."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dss.enclosure.memory import Memory
from dss.enclosure.passes import note_refusal
from dss.enclosure.registry import answer, name_of, refusal, rule
from dss.enclosure.rules.curves import SQRT
from dss.enclosure.rules.shapes import joined, reshape
from dss.enclosure.rules.smooth import root
from dss.enclosure.standin import StandIn, value_of
from dss.enclosure.value import METADATA, Enclosure, lift

_REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}


class Pairs(torch.Tensor):
    """A complex tensor of which real and imaginary parts are enclosed: it can be multiplied, added, and taken apart again.

    Attributes:
        parts: `(*shape, 2)`.
        memory: who may share its memory.
    """

    parts: Enclosure
    memory: Memory

    @staticmethod
    def __new__(cls, parts: Enclosure, dtype: torch.dtype = torch.complex64, shares: tuple = ()):
        self = torch.Tensor._make_wrapper_subclass(cls, parts.shape[:-1], dtype=dtype, device=parts.device)
        self.parts, self.memory = parts, Memory(self)
        self.memory.join(*(x.memory for x in shares))
        return self

    def shared_with(self, dtype: torch.dtype, shares: tuple) -> "Pairs":
        """As the result of a call of `forward`: of the dtype that torch gives, in the memory of its arguments."""
        return Pairs(self.parts, dtype, shares)

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        name = name_of(func)
        if name in METADATA:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        handler = _HANDLERS.get(name)
        try:
            if name.startswith("fft_"):
                return _transform_of(name, func, args, kwargs or {})
            if handler is None or kwargs:
                raise refusal(name, "of complex numbers; products, sums, reshape, real, imag and view_as_real have rules")
            return handler(*args)
        except Exception as error:
            raise note_refusal(error)  # noqa: B904 - the same error

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise note_refusal(refusal(str(func), "of complex numbers"))


@rule("view_as_complex")
def view_as_complex(x) -> Pairs:
    """The last dimension as real and imaginary part."""
    return Pairs(lift(x))


@rule("complex")
def complex_of(real, imaginary) -> Pairs:
    """Real and imaginary part apart."""
    return Pairs(joined(torch.stack, [lift(real), lift(imaginary)], -1))


@rule("polar")
def polar(size, angle) -> Pairs:
    """size (cos + i sin)."""
    size, angle = lift(size), lift(angle)
    return complex_of(size * angle.cos(), size * angle.sin())


def parts_of(x: Any) -> tuple[Enclosure, Enclosure]:
    """Real and imaginary part of anything."""
    if isinstance(x, Pairs):
        return x.parts[..., 0], x.parts[..., 1]
    x = value_of(x)
    if isinstance(x, complex):
        return lift(x.real), lift(x.imag)
    if isinstance(x, Tensor) and x.is_complex():
        whole = torch.view_as_real(x.resolve_conj()).to(torch.float64)
        return lift(whole[..., 0]), lift(whole[..., 1])
    real = lift(x)
    return real, lift(torch.zeros_like(real.center))


def _paired(real: Enclosure, imaginary: Enclosure, *of: Any) -> Pairs:
    """New memory, of the dtype that torch gives for arguments `of`."""
    dtypes = [x.dtype for x in of if isinstance(x, Tensor) and x.dim()]
    dtype = torch.complex128 if torch.float64 in dtypes or torch.complex128 in dtypes else torch.complex64
    return Pairs(joined(torch.stack, [real, imaginary], -1), dtype)


def _product(x: Any, y: Any) -> Pairs:
    """(a + ib)(c + id) = (ac - bd) + i(ad + bc)."""
    (a, b), (c, d) = parts_of(x), parts_of(y)
    return _paired(a * c - b * d, a * d + b * c, x, y)


def _sum(x: Any, y: Any) -> Pairs:
    (a, b), (c, d) = parts_of(x), parts_of(y)
    return _paired(a + c, b + d, x, y)


def _conjugate(x: Pairs) -> Pairs:
    real, imaginary = parts_of(x)
    return Pairs(joined(torch.stack, [real, -imaginary], -1), x.dtype, (x,))


def _reshaped(x: Pairs, *shape) -> Pairs:
    shape = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    return Pairs(reshape(x.parts, *shape, 2), x.dtype, (x,))


def _difference(x: Any, y: Any) -> Pairs:
    (a, b), (c, d) = parts_of(x), parts_of(y)
    return _paired(a - c, b - d, x, y)


def _quotient(x: Any, y: Any) -> Pairs:
    """(a + ib) / c, for a real c."""
    if isinstance(y, complex) or (isinstance(y, Tensor) and y.is_complex()):
        raise refusal("div", "by complex numbers")
    (a, b), c = parts_of(x), value_of(y)
    return _paired(a / c, b / c, x, y)


def _negative(x: Pairs) -> Pairs:
    return Pairs(-x.parts, x.dtype)


def _item(x: Pairs, index: Any) -> Pairs:
    index = index if isinstance(index, tuple) else (index,)
    return Pairs(x.parts[(*index, slice(None)) if Ellipsis in index else index], x.dtype, (x,))


def _size(x: Pairs) -> StandIn:
    """sqrt(a^2 + b^2)."""
    real, imaginary = parts_of(x)
    return StandIn(root(SQRT, real * real + imaginary * imaginary), _REAL[x.dtype])


def _transform_of(name: str, func: Callable, args: tuple, kwargs: dict) -> Any:
    """A Fourier transform, by its rule."""
    found, given = answer(name, func, args, kwargs), args[0].dtype
    return Pairs(found.parts, given) if isinstance(found, Pairs) else StandIn(found, _REAL[given])


def _real(part: Callable[[Pairs], Enclosure]) -> Callable[[Pairs], StandIn]:
    """A real tensor in the memory of a complex one."""

    def taken(x: Pairs) -> StandIn:
        result = StandIn(part(x), _REAL[x.dtype])
        result.memory.join(x.memory)
        return result

    return taken


_HANDLERS: dict[str, Callable] = {
    **dict.fromkeys(("mul", "multiply", "__mul__", "__rmul__"), _product), **dict.fromkeys(("add", "__add__", "__radd__"), _sum),
    **dict.fromkeys(("sub", "__sub__"), _difference), **dict.fromkeys(("rsub", "__rsub__"), lambda x, y: _difference(y, x)), **dict.fromkeys(("div", "__truediv__", "true_divide"), _quotient), **dict.fromkeys(("neg", "__neg__"), _negative), **dict.fromkeys(("abs", "__abs__"), _size),
    **dict.fromkeys(("view", "reshape"), _reshaped), "__getitem__": _item, "conj": _conjugate, "view_as_real": _real(lambda x: x.parts),
    "real": _real(lambda x: parts_of(x)[0]), "imag": _real(lambda x: parts_of(x)[1]),
}  # fmt: skip
