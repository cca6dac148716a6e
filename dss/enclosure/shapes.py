"""Operations that only move entries about: each component goes through torch's own function, exactly."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dss.enclosure.value import Enclosure, lift, rule, rule_with_function
from dss.errors import EnclosureError


def _share(source: Enclosure, *results: Enclosure) -> None:
    """Note that the results may be views of the source, which forbids changing any of them in place."""
    source.views[0] += 1
    for result in results:
        result.views = source.views


def rearranged(function, x: Enclosure) -> Enclosure:
    """`function`, applied to each component; one that is a single number for all entries stays as it is."""
    whole = x.center.dim() == 0
    parts = (part if part.dim() == 0 and not whole else function(part) for part in (x.center, x.slope, x.error))
    result = Enclosure(*parts)
    if x.ceiling is not None:
        result.ceiling = tuple(function(side) for side in x.ceiling)
    _share(x, result)
    return result


@rule_with_function(
    "flatten", "reshape", "view", "permute", "transpose", "swapaxes", "swapdims", "t", "T", "mT", "unsqueeze",
    "squeeze",
    "expand", "repeat", "__getitem__", "select", "narrow", "movedim", "flip", "roll", "unflatten",
    "index_select", "gather", "tile", "broadcast_to", "diagonal", "pixel_shuffle", "take_along_dim",
    "repeat_interleave",
)  # fmt: skip
def rearrange(func, x, *args, **kwargs) -> Enclosure:
    """Any torch function that copies entries of its first argument to new places."""
    if not isinstance(x, Enclosure) or any(isinstance(arg, Enclosure) for arg in args):
        raise EnclosureError(f"no rule encloses {func.__name__} with an index that depends on the parameters")
    return rearranged(lambda part: func(part, *args, **kwargs), x)


@rule("view_as", "reshape_as")
def view_as(x, other) -> Enclosure:
    """A reshape."""
    return rearrange(torch.reshape, x, tuple(other.shape))


@rule("expand_as")
def expand_as(x, other) -> Enclosure:
    """An expansion."""
    return rearrange(Tensor.expand, x, tuple(other.shape))


@rule_with_function("chunk", "split", "unbind", "tensor_split")
def pieces(func, x, *args, **kwargs) -> tuple[Enclosure, ...]:
    """The parts of one tensor."""
    whole = [part.expand(x.center.shape) for part in (x.center, x.slope, x.error)]
    results = tuple(Enclosure(*parts) for parts in zip(*(func(part, *args, **kwargs) for part in whole)))
    _share(x, *results)
    return results


@rule_with_function("cat", "stack", "concat", "concatenate")
def joined(func, tensors, *args, **kwargs) -> Enclosure:
    """Many tensors as one."""
    tensors = [lift(tensor) for tensor in tensors]
    whole = ([part.expand(x.center.shape) for part in (x.center, x.slope, x.error)] for x in tensors)
    return Enclosure(*(func(parts, *args, **kwargs) for parts in zip(*whole)))


@rule("pad")
def pad(x, pad, mode: str = "constant", value: float | None = None) -> Enclosure:
    """New entries are the constant, exactly, or copies of old ones."""
    whole = [part.expand(x.center.shape) for part in (x.center, x.slope, x.error)]
    fills = (value or 0.0, 0.0, 0.0) if mode == "constant" else (None, None, None)
    return Enclosure(*(F.pad(part, pad, mode, fill) for part, fill in zip(whole, fills)))


@rule("where")
def where(condition, x, y) -> Enclosure:
    """A choice that does not depend on the parameters."""
    if isinstance(condition, Enclosure):
        raise EnclosureError("no rule encloses 'where' with a condition that depends on the parameters")
    x, y = lift(x), lift(y)
    return Enclosure(*(torch.where(condition, getattr(x, part), getattr(y, part))
                       for part in ("center", "slope", "error")))  # fmt: skip


@rule("masked_fill")
def masked_fill(x, mask, value) -> Enclosure:
    """Entries replaced by a constant where a mask says so."""
    return where(mask, lift(value), x)


@rule("contiguous", "clone", "detach", "to", "float", "double", "type", "type_as", "requires_grad_", "cpu", "alias")
def same(x, *args, **kwargs) -> Enclosure:
    """The tensor itself: bounds are on real numbers, which a change of floating type would only round."""
    if any(isinstance(arg, torch.dtype) and not arg.is_floating_point for arg in (*args, *kwargs.values())):
        raise EnclosureError("no rule encloses a cast to whole numbers, which jumps")
    return lift(x)


@rule("dropout", "alpha_dropout", "feature_alpha_dropout", "dropout1d", "dropout2d", "dropout3d")
def dropout(x, p: float = 0.5, training: bool = False) -> Enclosure:
    """The identity in eval."""
    if training and p:
        raise EnclosureError("dropout draws at random in train mode; put the model in eval()")
    return x
