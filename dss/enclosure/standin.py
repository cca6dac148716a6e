"""What an unchanged `forward` sees in place of a tensor, and how its calls become rules."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from dss.base.errors import EnclosureError
from dss.enclosure.forecast import Leaf, forecast, mapped, tensors_of
from dss.enclosure.memory import Memory
from dss.enclosure.passes import note_refusal
from dss.enclosure.registry import answer, name_of, refusal, rule_of
from dss.enclosure.value import METADATA, Enclosure, lift

_IN_PLACE = {"__iadd__": "add", "__isub__": "sub", "__imul__": "mul", "__itruediv__": "div", "__idiv__": "div", "__ipow__": "pow",
             "__setitem__": "setitem"}  # fmt: skip
_LAYOUT = {"contiguous", "reshape", "reshape_as", "flatten", "ravel", "pixel_shuffle", "pixel_unshuffle"}
"""They copy or not as the layout in memory has it."""

_OF_WHOLE = {"sum", "add", "sub", "mul", "neg", "to", "type", "long", "int"}
"""Operations whose results on whole numbers are the real ones."""

_BRANCHES = {"__bool__", "item", "__float__", "__int__", "__index__", "tolist", "numpy", "__array__", "any", "all", "nonzero",
             "eq", "ne", "__eq__", "__ne__", "isnan", "isinf", "isfinite", "equal", "allclose", "__contains__", "argsort"}  # fmt: skip
_COMPARISONS = {"gt", "lt", "ge", "le", "__gt__", "__lt__", "__ge__", "__le__", "greater", "less", "greater_equal", "less_equal"}
"""They give masks, which choose entry by entry."""

_OF_MASKS = {"logical_not", "bitwise_not", "__invert__", "logical_and", "bitwise_and", "__and__", "__rand__", "logical_or", "bitwise_or",
             "__or__", "__ror__", "mul", "where", "view", "reshape", "flatten", "squeeze", "unsqueeze", "expand", "expand_as", "repeat",
             "transpose", "permute", "t", "T", "mT", "movedim", "flip", "roll", "select", "narrow", "broadcast_to", "chunk", "split", "unbind", "__getitem__", "cat", "stack", "clone", "contiguous", "detach", "to"}  # fmt: skip
"""Operations whose results on masks are the real ones."""

_ORDERS = {
    "sort",
    "topk",
    "kthvalue",
    "median",
    "nanmedian",
    "msort",
    "mode",
    "quantile",
    "nanquantile",
    "cummax",
    "cummin",
    "unique",
}
_SHAPED = {"zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"}
"""They take nothing but shape and dtype from a tensor."""

_NARROW = 4
"""Floating types of fewer bytes have two or three digits."""


class StandIn(torch.Tensor):
    """A tensor with the shape and dtype that the network expects, of which an `Enclosure` is known.

    It follows torch's semantics, so that a `forward` takes the way it would take on tensors: the dtype is the one that the
    call would give, a write changes it and nothing else (or is refused, where another tensor may share the memory), and
    what a rule keeps for the trace-back is the value that it was given, whatever is written later.

    Attributes:
        value: what is known of its entries now.
        constant: the tensor itself, in the arithmetic of the network, where it depends on neither parameters nor cell:
            comparisons, casts and branches on it are the network's own. None where it moves.
        memory: who may share its memory.
    """

    value: Enclosure
    constant: Tensor | None
    memory: Memory

    @staticmethod
    def __new__(cls, value: Enclosure, dtype: torch.dtype, constant: Tensor | None = None):
        self = torch.Tensor._make_wrapper_subclass(cls, value.center.shape, dtype=dtype, device=value.center.device)
        self.value, self.constant, self.memory = value, constant, Memory(self)
        return self

    def __repr__(self, **_) -> str:
        return f"StandIn(shape={tuple(self.shape)}, dtype={self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise note_refusal(refusal(str(func)))

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        name, kwargs = name_of(func), kwargs or {}
        if name in METADATA:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        try:
            return _called(name, func, args, kwargs)
        except Exception as error:
            raise note_refusal(error)  # noqa: B904 - the same error


def constant(value: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Data or a buffer as `forward` sees it: floating-point numbers by a `StandIn`, others as they are, both as copies
    that `forward` may write into."""
    if not value.is_floating_point():
        return value.clone()
    dtype = dtype or value.dtype
    return StandIn(lift(value), dtype, value.to(dtype))


def value_of(x: Any) -> Any:
    """What is known of a tensor that `forward` or a loss returned."""
    return x.value if isinstance(x, StandIn) else x


def _called(name: str, func: Callable, args: tuple, kwargs: dict) -> Any:
    """The result of a call of `forward`."""
    operation, writes = _operation(name, kwargs)
    if not args and "input" in kwargs and operation in _SHAPED | {"rms_norm"}:
        args, kwargs = (kwargs["input"],), {key: value for key, value in kwargs.items() if key != "input"}
    if kwargs.get("out") is not None:
        raise refusal(name, "with out=, which writes into another tensor")
    if torch.is_autocast_enabled("cpu"):
        raise refusal(name, "under autocast, which rounds to two or three digits")
    if writes:
        _check_writable(name, operation, args[0])
    expected = forecast(func, args, kwargs)
    if operation == "rms_norm" and kwargs.get("eps") is None:  # a number that only the dtype knows
        kwargs = kwargs | {"eps": torch.finfo(args[0].dtype).eps}
    if operation in _SHAPED:
        args = (torch.zeros(args[0].shape, dtype=args[0].dtype, device=args[0].device), *args[1:])
    folded = _folded(func, args, kwargs, writes=writes)
    if folded is _UNKNOWN and _is_complex(args, kwargs):
        return _by_pairs(func, args, kwargs)
    if folded is not _UNKNOWN and not any(x.is_floating_point() for x in tensors_of(folded)):
        return folded
    found = _found(operation, func, args, kwargs, folded)
    if writes:
        return _written(name, args[0], found, folded)
    folded = None if folded is _UNKNOWN else folded
    return _wrapped(found, expected, folded, _Call(name, operation, tensors_of(args, kwargs), kwargs))


def _operation(name: str, kwargs: dict) -> tuple[str, bool]:
    """The operation behind a name, and whether it writes into its first argument: `relu_`, `+=` or `inplace=True`."""
    if name in _IN_PLACE:
        return _IN_PLACE[name], True
    if name.endswith("_") and not name.endswith("__") and name != "requires_grad_":
        return name[:-1], True
    return name, bool(kwargs.get("inplace"))


def _check_writable(name: str, operation: str, target: Any) -> None:
    """Refuse a write that the enclosure cannot follow."""
    if not isinstance(target, StandIn):
        raise refusal(name, "which writes into a tensor that holds no enclosure; write it out of place")
    found = rule_of(operation)
    if found is not None and found.wants_function:
        raise refusal(name, "which changes the shape of a tensor in place; write it out of place")
    if any(user is not target for user in target.memory.living):
        raise refusal(name, "in place on a tensor that shares its memory with a view of it; write it out of place")


_PLAIN, _UNKNOWN = (Tensor, nn.Parameter), object()


def _folded(func: Callable, args: tuple, kwargs: dict, *, writes: bool) -> Any:
    """The network's own result where all arguments are constants, else `_UNKNOWN`."""
    if not all(type(x) in _PLAIN or (isinstance(x, StandIn) and x.constant is not None) for x in tensors_of(args, kwargs)):
        return _UNKNOWN
    args, kwargs = (mapped(part, lambda x: x.constant if isinstance(x, StandIn) else x) for part in (args, kwargs))
    if writes:
        args = (args[0].clone(), *args[1:])
    try:
        result = func(*args, **kwargs)
    except (RuntimeError, NotImplementedError):  # no batching rule, or a decision that differs between samples
        return _UNKNOWN
    return args[0] if result is None and writes else result


def _is_complex(args: tuple, kwargs: dict) -> bool:
    """Whether complex numbers take part."""
    return any(isinstance(x, complex) for x in args) or any(x.is_complex() for x in tensors_of(args, kwargs))


def _by_pairs(func: Callable, args: tuple, kwargs: dict) -> Any:
    """A call with complex numbers, by the class of their pairs; constants are such, too."""

    def paired(x: Tensor) -> Tensor:
        if not x.is_complex() or type(x) not in _PLAIN:
            return x
        return answer("view_as_complex", func, (lift(torch.view_as_real(x.resolve_conj())),), {}).shared_with(x.dtype, ())

    pair: Any = type(answer("view_as_complex", func, (lift(torch.zeros(2)),), {}))
    return pair.__torch_function__(func, (pair,), mapped(args, paired), mapped(kwargs, paired))


def _found(operation: str, func: Callable, args: tuple, kwargs: dict, folded: Any) -> Any:
    """What the rule gives; for constants without a rule, the network's own result."""
    kwargs = {name: value for name, value in kwargs.items() if name not in ("inplace", "out")}
    try:
        if operation in _BRANCHES:
            raise refusal(operation, "of a number that depends on the parameters, or differs between samples: a branch on it "
                          "cannot be followed")  # fmt: skip
        if operation in _ORDERS:
            raise refusal(operation, "of entries whose order depends on the parameters; maxima and minima have rules")
        if operation == "setitem" and _is_mask(args[1]) and args[1].shape == args[0].shape:
            operation = "masked_fill"
        return answer(operation, func, mapped(args, _known), mapped(kwargs, _known))
    except EnclosureError:
        if folded is _UNKNOWN:
            raise
    return mapped(folded, lambda x: lift(x) if x.is_floating_point() else x)


def _is_mask(x: Any) -> bool:
    return isinstance(x, StandIn) and x.dtype == torch.bool


def _known(x: Tensor) -> Tensor:
    """The enclosure of an argument, or the entries of a plain tensor as they are now."""
    if isinstance(x, StandIn):
        return x.value
    return x.clone() if type(x) in _PLAIN else x


def _written(name: str, target: StandIn, found: Enclosure, folded: Any) -> StandIn | None:
    """Give the target its new value."""
    if found.center.shape != target.shape:
        raise refusal(name, f"in place: it would change the shape {tuple(target.shape)} to {tuple(found.center.shape)}")
    target.value, target.constant = found, None if folded is _UNKNOWN else folded.to(target.dtype)
    return None if name == "__setitem__" else target


class _Call:
    """A call whose result is being wrapped."""

    def __init__(self, name: str, operation: str, tensors: list[Tensor], kwargs: dict):
        self.name, self.operation, self.tensors = name, operation, tensors
        self.layout = operation in _LAYOUT or (kwargs.get("memory_format") is not None and operation != "clone")

    def dtype(self) -> torch.dtype:
        """That of the result by torch's promotion of types, where torch was not asked."""
        floating = [x.dtype for x in self.tensors if x.is_floating_point()]
        return reduce(torch.promote_types, floating) if floating else self.tensors[0].dtype


def _wrapped(found: Any, expected: Any, folded: Any, call: _Call) -> Any:
    """The result of a call as `forward` sees it, compared with what torch says of it."""
    if isinstance(found, (tuple, list)):
        nothing = [None] * len(found)
        parts = [_wrapped(*part, call) for part in zip(found, _parts(expected, nothing), _parts(folded, nothing))]
        return type(found)(parts)
    if not isinstance(found, Tensor):
        return found
    if expected is not None and (not isinstance(expected, Leaf) or found.shape != expected.shape):
        raise refusal(call.name, f"with these arguments: its rule gives the shape {tuple(found.shape)}, torch another one")
    if isinstance(found, Enclosure):
        return _stood_in(found, expected, folded, call)
    # Pairs of real numbers for complex ones are a tensor of their own.
    shared_with = getattr(found, "shared_with", None)
    if shared_with is None or expected is None:
        return found
    return shared_with(expected.dtype, tuple(x for x in call.tensors if isinstance(x, StandIn)))


def _parts(value: Any, nothing: list) -> Any:
    return value if isinstance(value, (tuple, list)) and not isinstance(value, Leaf) and len(value) == len(nothing) else nothing


def _stood_in(found: Enclosure, expected: Leaf | None, folded: Tensor | None, call: _Call) -> Tensor:
    """The tensor that stands for an enclosure: an argument itself where torch would return it, or one that may share memory."""
    dtype = call.dtype() if expected is None else expected.dtype
    _check_dtype(dtype, call)
    if expected is not None and expected.same is not None and not call.layout:
        return call.tensors[expected.same]
    result = StandIn(found, dtype, None if folded is None else folded)
    shares = range(len(call.tensors)) if expected is None or call.layout else expected.shares
    result.memory.join(*(x.memory for x in (call.tensors[i] for i in shares) if isinstance(x, StandIn)))
    return result


def _check_dtype(dtype: torch.dtype, call: _Call) -> None:
    """Refuse results that are no real numbers to full precision."""
    given = {x.dtype for x in call.tensors if isinstance(x, StandIn)}
    if dtype.is_complex:
        raise refusal(call.name, "which gives complex numbers")
    if dtype.is_floating_point:
        if dtype.itemsize < _NARROW and dtype not in given:
            raise refusal(call.name, f"which rounds to {dtype}, to two or three digits: the bound would be on another number")
    elif dtype == torch.bool:
        if call.operation not in _COMPARISONS and not (call.operation in _OF_MASKS and given <= {torch.bool}):
            raise refusal(call.name, "which gives a mask that nothing is known of")
    elif (
        any(each.is_floating_point for each in given)
        or dtype not in (torch.int64, torch.int32)
        or call.operation not in _OF_WHOLE
    ):
        raise refusal(call.name, f"which gives {dtype}: a cast to whole numbers jumps")
