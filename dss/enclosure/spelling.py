"""Keyword arguments as torch spells them, for rules that name their parameters by their part in a formula."""

import inspect
from collections.abc import Callable
from functools import lru_cache
from types import FunctionType

import torch
import torch.nn.functional as F

NUMPY = {"self": "input", "x": "input", "a": "input", "x1": "input", "x2": "other", "axis": "dim", "keepdims": "keepdim"}
"""Spellings that torch takes beside its own."""

OTHER_ORDER = {"batch_norm", "instance_norm", "embedding", "embedding_bag", "kl_div", "binary_cross_entropy_with_logits"}
"""Functions of `torch.nn.functional` beside which torch has another one of the same name, with its arguments in another order."""


def has_other_order(name: str, func: Callable) -> bool:
    """Whether `func` is the one of `torch` itself, whose arguments are not those of the rule."""
    return name in OTHER_ORDER and not isinstance(func, FunctionType)


def spelled(name: str, func: Callable, handler: Callable, kwargs: dict, *, given: int = 0) -> dict:
    """`kwargs`, which follow `given` arguments by place, under the names that the handler of an operation has for them: an argument
    is the same one by its place.

    What no overload of the operation knows stays as it is.
    """
    own, takes_all = _own(handler)
    strange = [key for key in kwargs if key not in own[given:]]
    if not strange:
        return kwargs
    if takes_all:  # the rest is handed on to torch
        return {own[0] if key in strange and NUMPY.get(key, key) == "input" else key: value for key, value in kwargs.items()}
    for order in orders(name, method=getattr(torch.Tensor, name, None) is func):
        if all(NUMPY.get(key, key) in order[: len(own)] for key in strange):
            return {own[order.index(NUMPY.get(key, key))] if key in strange else key: value for key, value in kwargs.items()}
    return kwargs


def _own(handler: Callable) -> tuple[list[str], bool]:
    parameters = _parameters(handler)
    return [each.name for each in parameters if each.kind not in _REST], any(each.kind is each.VAR_KEYWORD for each in parameters)


_REST = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


@lru_cache(maxsize=1024)
def _parameters(function: Callable) -> tuple[inspect.Parameter, ...]:
    # The torch function that some rules want before their arguments is none of them.
    return tuple(each for each in inspect.signature(function).parameters.values() if each.name != "func")


@lru_cache(maxsize=1024)
def orders(name: str, *, method: bool = False) -> tuple[tuple[str, ...], ...]:
    """The arguments of every overload of a torch function in their order; those of a method begin with the tensor itself."""
    packet, function = getattr(torch.ops.aten, name, None), getattr(F, name, None)
    found = []
    if isinstance(packet, torch._ops.OpOverloadPacket) and name not in OTHER_ORDER:
        schemas = [getattr(packet, overload)._schema for overload in packet.overloads()]
        tensors = [
            each.arguments for each in schemas if "Tensor" in str(each) and not any(part.is_out for part in each.arguments)
        ]
        found += [tuple("input" if part.name == "self" else part.name for part in each) for each in tensors]
    if isinstance(function, FunctionType):
        found.append(tuple(each.name for each in _parameters(function)))
    if method:
        found = [("input", *(part for part in order if part != "input")) for order in found]
    return tuple(dict.fromkeys(found))
