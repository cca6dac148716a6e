"""What torch itself says of a call before it is made: shapes, dtypes, and which results are or share arguments.

The call is made once on tensors of ones (whole numbers are zeros), and remembered by shapes and dtypes. What a rule returns
is compared with it, so that no rule can overlook an argument that changes the result's shape or dtype. (Meta tensors, which
have no entries, would say the same, but take seconds to be loaded.)
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

from dss.enclosure.registry import name_of

MOST_KNOWN = 4096
"""Forecasts that are kept; a network makes the same few calls again and again."""


class Leaf(NamedTuple):
    """One tensor of a result: its shape and dtype, the argument that it is, and the arguments whose memory it shares."""

    shape: torch.Size
    dtype: torch.dtype
    same: int | None
    shares: tuple[int, ...]


_BY_VALUES = {"__getitem__", "repeat_interleave", "masked_select", "nonzero", "unique", "bincount", "tensor_split"}
"""Calls whose shapes may depend on whole numbers or booleans that are given as tensors."""

_KNOWN: dict[Any, Any] = {}


def forecast(func: Callable, args: tuple, kwargs: dict) -> Any:
    """The result of a call with a `Leaf` for every tensor; None if it depends on more than shapes and dtypes, or torch refuses.

    Arguments are counted as `tensors_of` does.
    """
    if name_of(func) in _BY_VALUES and any(not x.is_floating_point() for x in tensors_of(args, kwargs)):
        return None
    numbers: dict[int, int] = {}
    try:
        key = (func, _signature(args, numbers), _signature(kwargs, numbers))
        found = _KNOWN.get(key, _KNOWN)
    except TypeError:  # an argument that cannot be a key
        return None
    if found is _KNOWN:
        if len(_KNOWN) >= MOST_KNOWN:
            _KNOWN.clear()
        with temporarily_clear_interpreter_stack():  # as torch has it, not as `vmap` does
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
    """The call, on tensors of nothing but ones and zeros."""
    state, ghosts = torch.get_rng_state(), {id(x): _ghost(x) for x in tensors_of(args, kwargs)}
    try:
        args, kwargs = (_on_cpu(mapped(part, lambda x: ghosts[id(x)])) for part in (args, kwargs))
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = func(*args, **kwargs)
    except Exception:  # torch refuses it, or cannot do it with such entries: then the rule has its say
        return None
    finally:
        torch.set_rng_state(state)
    return mapped(result, lambda x: _leaf(x, list(ghosts.values())))


def _ghost(x: Tensor) -> Tensor:
    return torch.full(x.shape, x.is_floating_point(), dtype=x.dtype, device="cpu")


def _on_cpu(value: Any) -> Any:
    """Arguments with "cpu" for every device: where tensors lie is not what is asked."""
    if isinstance(value, torch.device) or (isinstance(value, str) and value.partition(":")[0] in ("cuda", "mps", "xpu", "meta")):
        return "cpu"
    if isinstance(value, dict):
        return {name: _on_cpu(part) for name, part in value.items()}
    return tuple(map(_on_cpu, value)) if type(value) is tuple else value


def _leaf(result: Tensor, ghosts: list[Tensor]) -> Leaf:
    same = next((i for i, ghost in enumerate(ghosts) if ghost is result), None)
    memory = result.untyped_storage()._cdata
    return Leaf(
        result.shape, result.dtype, same, tuple(i for i, ghost in enumerate(ghosts) if ghost.untyped_storage()._cdata == memory)
    )
