"""What torch itself says of a call before it is made: shapes, dtypes, and which results are or share arguments.

The call is made on meta tensors, which have no entries. What a rule returns is compared with it, so that no rule can
overlook an argument that changes the result's shape or dtype.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

MOST_KNOWN = 4096
"""Forecasts that are kept; a network makes the same few calls again and again."""


class Leaf(NamedTuple):
    """One tensor of a result: its shape and dtype, the argument that it is, and the arguments whose memory it shares."""

    shape: torch.Size
    dtype: torch.dtype
    same: int | None
    shares: tuple[int, ...]


_KNOWN: dict[Any, Any] = {}


def forecast(func: Callable, args: tuple, kwargs: dict) -> Any:
    """The result of a call with a `Leaf` for every tensor; None if torch does not know it without entries.

    Arguments are counted as `tensors_of` does.
    """
    numbers: dict[int, int] = {}
    try:
        key = (func, _signature(args, numbers), _signature(kwargs, numbers))
        found = _KNOWN.get(key, _KNOWN)
    except TypeError:  # an argument that cannot be a key
        return _made(func, args, kwargs)
    if found is _KNOWN:
        if len(_KNOWN) >= MOST_KNOWN:
            _KNOWN.clear()
        found = _KNOWN[key] = _made(func, args, kwargs)
    return found


def tensors_of(*values: Any) -> list[Tensor]:
    """The tensors in nested arguments, each once."""
    found: dict[int, Tensor] = {}
    mapped(values, lambda x: found.setdefault(id(x), x))
    return list(found.values())


def mapped(value: Any, function: Callable[[Tensor], Any]) -> Any:
    """Nested arguments with every tensor replaced."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, (tuple, list)):
        parts = [mapped(part, function) for part in value]
        return type(value)(parts) if type(value) in (tuple, list) else tuple(parts)
    if isinstance(value, dict):
        return {name: mapped(part, function) for name, part in value.items()}
    if isinstance(value, slice):
        return slice(*(mapped(part, function) for part in (value.start, value.stop, value.step)))
    return value


def _signature(value: Any, numbers: dict[int, int]) -> Any:
    """A key that is equal for calls of the same outcome; the same tensor given twice is another call than two tensors."""
    if isinstance(value, Tensor):
        return value.shape, value.dtype, numbers.setdefault(id(value), len(numbers))
    if isinstance(value, (tuple, list)):
        return type(value), tuple(_signature(part, numbers) for part in value)
    if isinstance(value, dict):
        return tuple((name, _signature(part, numbers)) for name, part in value.items())
    if isinstance(value, slice):
        return slice, value.start, value.stop, value.step
    return type(value), value


def _made(func: Callable, args: tuple, kwargs: dict) -> Any:
    """The call on meta tensors."""
    ghosts = {id(x): torch.empty(x.shape, dtype=x.dtype, device="meta") for x in tensors_of(args, kwargs)}
    try:
        args, kwargs = (mapped(part, lambda x: ghosts[id(x)]) for part in (args, kwargs))
        with torch.no_grad():
            result = func(*args, **kwargs)
    except Exception:  # a call that needs entries, or one that torch refuses: then the rule has its say
        return None
    return mapped(result, lambda x: _leaf(x, list(ghosts.values())))


def _leaf(result: Tensor, ghosts: list[Tensor]) -> Leaf:
    same = next((i for i, ghost in enumerate(ghosts) if ghost is result), None)
    memory = result.untyped_storage()._cdata
    return Leaf(
        result.shape, result.dtype, same, tuple(i for i, ghost in enumerate(ghosts) if ghost.untyped_storage()._cdata == memory)
    )
