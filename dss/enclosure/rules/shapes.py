"""Operations that only move entries about: each component goes through torch's own function, exactly."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._C._functorch import is_batchedtensor  # pyright: ignore[reportMissingImports]

from dss.base.errors import EnclosureError
from dss.enclosure.adjoint import is_number, through, tracked, transposed
from dss.enclosure.registry import name_of, rule, rule_with_function
from dss.enclosure.value import Enclosure, ceiling, lift, settled

OUTLYING = 1e3
"""Constants as large as this (-1e9, -inf) shut entries out, and lend the others none of their rounding."""


def is_constant(x: Enclosure) -> bool:
    """Whether it is the same for all samples and cells."""
    if x.bend is not None or x.twist is not None or is_batchedtensor(x.center) or is_batchedtensor(x.slope):
        return False
    return x.still or (x.dim() == 0 and not x.slope.any())


def has_outliers(x: Enclosure) -> bool:
    """Whether it is ragged, or a constant with entries that make others so."""
    return x.ragged or (x.numel() > 0 and is_constant(x) and bool(x.center.abs().amax() > OUTLYING))


def rearranged(function, x: Enclosure, *, copies: int | None = 1, reshapes: bool = False) -> Enclosure:
    """`function`, applied to each component; one that is a single number for all entries stays as it is.

    What bounds all entries bounds those that are left, too. No entry may be copied to more than `copies` places, None
    for all; if it `reshapes`, the function leaves their order alone.
    """
    if x.exact:
        constant = lift(function(x.center))
        constant.ragged = x.ragged
        return constant
    whole = x.center.dim() == 0
    center, slope, error = (part if part.dim() == 0 and not whole else function(part) for part in (x.center, x.slope, x.error))
    result = Enclosure(center, slope, error, *curved(function, x))
    result._most, result._reach, result.ragged = x._most, x._reach, x.ragged
    if x.ceiling is not None:
        result.ceiling = tuple(function(side) for side in x.ceiling)
    if reshapes:
        return through(result, x, function, lambda weight: weight.reshape(x.center.shape), terms=0, apart=True)
    copies = result.center.numel() if copies is None else copies
    return tracked(result, None, (x,), transposed(function, x.center), terms=copies if copies > 1 else 0)


@rule_with_function(
    "flatten", "ravel", "permute", "transpose", "swapaxes", "swapdims", "t", "T", "mT", "mH", "adjoint",
    "unsqueeze", "squeeze", "expand", "repeat", "__getitem__", "select", "narrow", "movedim", "flip", "roll",
    "index_select", "gather", "tile", "broadcast_to", "diagonal", "pixel_shuffle", "take_along_dim",
    "repeat_interleave", "unfold", "pixel_unshuffle", "channel_shuffle", "rot90", "fliplr", "flipud", "take", "diag_embed",
)  # fmt: skip
def rearrange(func, x, *args, **kwargs) -> Enclosure:
    """Any torch function that copies entries of its first argument to new places."""
    name = name_of(func)
    if not isinstance(x, Enclosure) or any(isinstance(arg, Enclosure) for arg in args):
        raise EnclosureError(f"no rule encloses {name} with an index that depends on the parameters")
    # A slice takes an entry once; lists and tensors of indices, and all that repeats, may take it to every place.
    once = name in _ONCE or (name == "__getitem__" and _is_plain(args[0]))
    return rearranged(lambda part: func(part, *args, **kwargs), x, copies=1 if once else None, reshapes=name in _RESHAPES)


@rule("view", "reshape")
def reshape(x, *shape, **options) -> Enclosure:
    """The same entries in another shape. The components may lie in memory in another order than the tensor that they are
    components of, and cannot be viewed wherever it can."""
    shape = options.get("shape", options.get("size", shape))
    if options.get("dtype") is not None or any(isinstance(part, torch.dtype) for part in shape):
        raise EnclosureError("no rule encloses a view of the bits as another dtype")
    return rearranged(lambda part: part.reshape(*shape), x, reshapes=True)


@rule("unflatten")
def unflatten(x, dim: int, sizes) -> Enclosure:
    """One dimension as several."""
    dim = dim % x.dim()
    return reshape(x, *x.shape[:dim], *sizes, *x.shape[dim + 1 :])


_RESHAPES = {"flatten", "unsqueeze", "squeeze", "ravel"}
_ONCE = _RESHAPES | {"permute", "transpose", "swapaxes", "swapdims", "t", "T", "mT", "mH", "adjoint", "select", "narrow", "movedim", "flip",
                     "roll", "diagonal", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "rot90", "fliplr", "flipud", "diag_embed"}  # fmt: skip


def _is_plain(index) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts)


@rule("moveaxis")
def moveaxis(x, source, destination) -> Enclosure:
    """`movedim`, which `vmap` knows."""
    return lift(x).movedim(source, destination)


@rule("view_as", "reshape_as")
def view_as(x, other) -> Tensor:
    """A reshape."""
    shape = tuple(other.shape)
    return reshape(x, shape) if isinstance(x, Enclosure) else x.reshape(shape)


@rule("expand_as")
def expand_as(x, other) -> Tensor:
    """An expansion."""
    shape = tuple(other.shape)
    return rearrange(Tensor.expand, x, shape) if isinstance(x, Enclosure) else x.expand(shape)


def curved(function, x: Enclosure) -> tuple[Tensor | None, Tensor | None]:
    """`function` of the parts of second and third order, where there are such."""
    bend, twist = (None if part is None else function(part) for part in (x.bend, x.twist))
    return bend, twist


@rule_with_function("chunk", "split", "unbind", "tensor_split", "unsafe_chunk", "unsafe_split", "hsplit", "vsplit", "dsplit")
def pieces(func, x, *args, **kwargs) -> tuple[Enclosure, ...]:
    """The parts of one tensor."""

    def cut(part: Tensor) -> tuple[Tensor, ...]:
        return func(part, *args, **kwargs)

    whole = [cut(part.expand(x.center.shape)) for part in (x.center, x.slope, x.error)]
    nothing = [None] * len(whole[0])
    results = tuple(Enclosure(*parts) for parts in zip(*whole, *(part or nothing for part in curved(cut, x))))
    for i, result in enumerate(results):
        result.ragged = x.ragged
        tracked(result, None, (x,), transposed(lambda part, i=i: cut(part)[i], x.center), terms=0)
    return results


@rule_with_function("cat", "stack", "concat", "concatenate", "hstack", "vstack", "dstack")
def joined(func, tensors, *args, **kwargs) -> Enclosure:
    """Many tensors as one."""
    tensors = [lift(tensor) for tensor in tensors]
    return combined(lambda *parts: func(parts, *args, **kwargs), *tensors)


def combined(function, *tensors: Enclosure) -> Enclosure:
    """`function` of several tensors, linear in them and without arithmetic, of each component."""
    if all(x.exact for x in tensors):
        constant = lift(function(*(x.center for x in tensors)))
        constant.ragged = any(map(has_outliers, tensors))
        return constant
    whole = [[part.expand(x.center.shape) for part in (x.center, x.slope, x.error)] for x in tensors]
    center, slope, error = (function(*part) for part in zip(*whole))
    none, more = [torch.zeros_like(x.center) for x in tensors], []
    for parts in ([x.bend for x in tensors], [x.twist for x in tensors]):
        filled = (zero if part is None else part for part, zero in zip(parts, none))
        more.append(None if all(part is None for part in parts) else function(*filled))
    numbers, pull = [is_number(x) for x in tensors], transposed(function, *(x.center for x in tensors))
    carried = function(*(zero if number else x.error for x, zero, number in zip(tensors, none, numbers)))
    sources = [x for x, number in zip(tensors, numbers) if not number]
    result = Enclosure(center, slope, error, *more)
    result.ragged = any(map(has_outliers, tensors))
    return tracked(result, carried, sources,
                   lambda weight: [part for part, number in zip(pull(weight), numbers) if not number])  # fmt: skip


@rule("pad")
def pad(x, pad, mode: str = "constant", value: float | None = None) -> Enclosure:
    """New entries are the constant, exactly, or copies of old ones."""
    if mode != "constant":
        return rearranged(lambda part: F.pad(part, pad, mode), x, copies=3 ** x.dim())
    framed = rearranged(lambda part: F.pad(part, pad), x)
    if not value:
        return framed
    inside = F.pad(torch.ones_like(x.center, dtype=torch.bool), pad)
    return where(inside, framed, value)


@rule("where")
def where(condition, x, y) -> Enclosure:
    """A choice, as a function or as a method of `x`; both, where it is not known which."""
    if isinstance(x, Tensor) and x.dtype == torch.bool and condition.dtype != torch.bool:
        condition, x = x, condition
    x, y = lift(x), lift(y)
    shape = torch.broadcast_shapes(condition.shape, x.center.shape, y.center.shape)
    x, y = broadcast(x, shape), broadcast(y, shape)
    if not isinstance(condition, Enclosure):
        result = combined(partial(torch.where, condition), x, y)
        if x.ceiling is not None or y.ceiling is not None:
            result.ceiling = tuple(torch.where(condition, a, b) for a, b in zip(ceiling(x), ceiling(y), strict=True))
        return result
    sure, never = sides(condition)
    return where(sure, x, where(never, y, _either(x, y)))


def sides(mask) -> tuple[Tensor, Tensor]:
    """Where a mask of ones and zeros is surely 1, and where it is surely 0."""
    if not isinstance(mask, Enclosure):
        sure = torch.as_tensor(mask, dtype=torch.bool)
        return sure, ~sure
    low, high = mask.extent
    return low > 0.5, high < 0.5


def _either(x: Enclosure, y: Enclosure) -> Enclosure:
    """What holds both: the mean of the two, and half of what lies between."""
    center, slope = ((one + other) / 2 for one, other in ((x.center, y.center), (x.slope, y.slope)))
    apart = (x.center - y.center).abs() / 2 + (x.slope - y.slope).abs() / 2
    more = []
    for one, other in ((x.bend, y.bend), (x.twist, y.twist)):
        if one is None and other is None:
            more.append(None)
            continue
        one, other = (torch.zeros_like(center) if part is None else part for part in (one, other))
        more.append((one + other) / 2)
        apart = apart + (one - other).abs() / 2
    return settled(center, slope, torch.maximum(x.error, y.error) + apart, *more, magnitude=x.magnitude + y.magnitude)


def broadcast(x: Enclosure, shape: torch.Size) -> Enclosure:
    """With its entries repeated."""
    if x.center.shape == shape:
        return x
    return rearranged(lambda part: part.expand(shape), x, copies=shape.numel() // max(1, x.center.numel()))


@rule("tril")
def tril(x, diagonal: int = 0) -> Enclosure:
    """Zeros above a diagonal."""
    return where(torch.ones(x.shape[-2:], dtype=torch.bool, device=x.device).tril(diagonal), x, 0.0)


@rule("triu")
def triu(x, diagonal: int = 0) -> Enclosure:
    """Zeros below a diagonal."""
    return where(torch.ones(x.shape[-2:], dtype=torch.bool, device=x.device).triu(diagonal), x, 0.0)


@rule("masked_fill")
def masked_fill(x, mask, value) -> Enclosure:
    """Entries replaced by a constant where a mask says so."""
    return where(mask, lift(value), x)


@rule("contiguous", "clone", "detach", "to", "float", "double", "half", "bfloat16", "long", "int", "type", "type_as",
      "requires_grad_", "cpu", "positive", "__pos__", "data")  # fmt: skip
def same(x, *args, **kwargs) -> Enclosure:
    """The same numbers: bounds are on real numbers, which a change of floating type would only round. What dtype a cast gives,
    and which are refused, is decided where `forward` calls it."""
    return lift(x)


@rule("zero")
def zero(x) -> Enclosure:
    """Zeros in place of the entries, for `zero_`."""
    return filled(x, 0.0)


@rule("fill")
def filled(x, value) -> Enclosure:
    """One number in place of the entries, for `fill_`."""
    return broadcast(lift(value), x.shape)


@rule("copy")
def copied(x, source, non_blocking: bool = False) -> Enclosure:
    """Another tensor in place of the entries, for `copy_`."""
    return broadcast(lift(source), x.shape)


@rule("setitem")
def with_item(x, index, value) -> Enclosure:
    """`x` after `x[index] = value`, at places that do not depend on the parameters."""
    x, value = lift(x), lift(value)
    if isinstance(index, Tensor) and index.dtype == torch.bool and value.dim() == 0:
        return where(index.reshape(*index.shape, *[1] * (x.dim() - index.dim())), value, x)
    if any(isinstance(part, Enclosure) for part in (index if isinstance(index, tuple) else (index,))):
        raise EnclosureError("no rule encloses a write to places that depend on the parameters")
    places = torch.arange(x.numel(), device=x.device).view(x.shape)[index]
    new = broadcast(value, places.shape)
    return combined(lambda old, new: old.flatten().index_copy(0, places.flatten(), new.flatten()).view(x.shape), x, new)


@rule("dropout", "alpha_dropout", "feature_alpha_dropout", "feature_dropout", "dropout1d", "dropout2d", "dropout3d")
def dropout(x, p: float = 0.5, training: bool = True) -> Enclosure:
    """The identity in eval."""
    if training and p:
        raise EnclosureError("dropout draws at random in train mode; put the model in eval()")
    return x
