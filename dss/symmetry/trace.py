"""One run of a network, operation by operation at the level of ATen, in which the axes of its tensors get their types.

Below `nn.Module` and Python, every network is a sequence of some hundred operations, with recurrent layers and attention
taken apart and control flow gone; each has a rule (`rules`) that unifies the types of what goes in and says those of
what comes out. An operation without a rule pins all it touches.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dss.symmetry.axes import Axis, atoms, pin, unify
from dss.symmetry.evaluation import InDouble, tensors_in

Axes = tuple[Axis, ...]
Rule = Callable[["Call"], Sequence[Axes] | None]

RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register the rule of operations `aten.<name>`; it returns the axes of the results, the first ones at least."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys((f"aten.{name}" for name in names), function))
        return function

    return register


class Trace(InDouble):
    """Types of all tensors of one run.

    Attributes:
        records: the axes of every tensor that came out.
        mixes: (axes of a tensor, those along which its entries were mixed while all axes stayed).
        live: axes along which data runs: those of results that depend on the inputs, and contracted ones.
        entries: (number of a call, which of its tensors, its axes): data that enters a contraction.
        selected: places (call, axis) where a view made an axis out of whose places single ones were then taken.
        unknown: operations without a rule that touched units.
    """

    def __init__(self, known: Iterable[tuple[Tensor, Axes]], inputs: Iterable[Tensor], cases: frozenset = frozenset()):
        super().__init__()
        self.cases = cases
        self.records: list[Axes] = []
        self.mixes: list[tuple[Axes, Axes]] = []
        self.live: list[Axis] = []
        self.entries: list[tuple[int, int, Axes]] = []
        self.selected: set[tuple[int, int]] = set()
        self.unknown: dict[str, None] = {}
        # Tensors are told apart by their addresses, so none may be freed while the trace lasts.
        self._kept: dict[int, tuple[Tensor, Axes, tuple[int, ...]]] = {}
        self._uniform: set[int] = set()
        self._data: set[int] = set()
        self._entered: set[tuple] = set()
        for tensor, axes in known:
            self._keep(tensor, axes)
        for tensor in inputs:
            self._keep(tensor, pinned(tensor, "input"))
            self._data.add(_storage(tensor))

    def axes(self, tensor: Tensor) -> Axes:
        """The axes of a tensor; one that nobody saw being made is a constant."""
        if id(tensor) not in self._kept:
            self._keep(tensor, pinned(tensor, "constant"))
        return self._kept[id(tensor)][1]

    def strides(self, tensor: Tensor) -> tuple[int, ...]:
        """The strides of a tensor before an operation in place changed them."""
        return self._kept[id(tensor)][2] if id(tensor) in self._kept else tensor.stride()

    def is_uniform(self, tensor: Tensor) -> bool:
        """Whether all its entries are equal, so that reading it says nothing about its axes."""
        return _storage(tensor) in self._uniform

    def is_data(self, tensor: Tensor) -> bool:
        """Whether it depends on the inputs."""
        return _storage(tensor) in self._data

    def enter(self, number: int, position: int, tensor: Tensor, axes: Axes) -> None:
        """Note data that enters a contraction, once for each memory it lies in."""
        key = (_storage(tensor), tensor.storage_offset(), tensor.numel())
        if self.is_data(tensor) and key not in self._entered:
            self._entered.add(key)
            self.entries.append((number, position, axes))

    def see(self, func, args: tuple, kwargs: dict, result: object) -> None:
        call = Call(self, func, bound(func, args, kwargs), tensors_in((args, kwargs)), tensors_in(result), self.calls)
        for tensor, axes in zip(call.results, call.types(), strict=True):
            self._keep(tensor, axes)
            self.records.append(axes)
            if any(map(self.is_data, call.operands)):
                self._data.add(_storage(tensor))
                self.live.extend(axes)
        self._note_uniform(call)

    def _note_uniform(self, call: "Call") -> None:
        """What is filled with one value stays so under views, copies and elementwise operations, until it is written to."""
        if call.mutated is not None and not call.fills:
            self._uniform.discard(_storage(call.mutated))
        elif call.fills or (call.operands and call.elementwise and all(map(self.is_uniform, call.operands))):
            self._uniform.update(map(_storage, call.results))

    def _keep(self, tensor: Tensor, axes: Axes) -> None:
        self._kept[id(tensor)] = tensor, axes, tensor.stride()


@dataclass(frozen=True, eq=False)
class Call:
    """One operation that was carried out, as its rule sees it."""

    trace: Trace
    func: torch._ops.OpOverload
    arguments: Mapping[str, Any]
    operands: Sequence[Tensor]
    results: Sequence[Tensor]
    number: int

    @property
    def name(self) -> str:
        """Such as "aten.add"; an operation in place goes by the name of the plain one where that has a rule."""
        return str(self.func.overloadpacket)

    @property
    def out(self) -> Tensor:
        """The first result."""
        return self.results[0]

    @property
    def mutated(self) -> Tensor | None:
        """The tensor that is written to, if one is."""
        named = [a.name for a in self.func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
        return next((t for name in named if isinstance(t := self.arguments[name], Tensor)), None)

    @property
    def fills(self) -> bool:
        """Whether the result is one value throughout."""
        fills = self.name.removesuffix("_") in FILLS
        return fills and (self.mutated is None or (self.trace.is_uniform(self.mutated) and _whole(self.mutated)))

    @property
    def elementwise(self) -> bool:
        """Whether each entry of the result is made of the entries at its own place."""
        return torch.Tag.pointwise in self.func.tags or self.name.removesuffix("_") in POINTWISE | COPIES

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    def axes(self, tensor: Tensor) -> Axes:
        """The axes of an operand. A constant that is one value throughout fits anything, anew at each use: zeros as the
        first state of all layers of a recurrent network must not tie their units."""
        if self.trace.is_uniform(tensor) and tensor is not self.mutated and not self.is_view:
            return tuple(Axis(size) for size in tensor.shape)
        return self.trace.axes(tensor)

    @property
    def is_view(self) -> bool:
        """Whether the result shares memory with an operand that stays as it is."""
        return bool(self.results) and self.mutated is None and any(_storage(t) == _storage(self.out) for t in self.operands)

    def unify(self, x: Axis, y: Axis) -> None:
        """Two axes are one."""
        unify(x, y, self.name)

    def pin(self, axis: Axis, why: str) -> None:
        """The places along this axis are not interchangeable here."""
        pin(axis, f"{why} {self.name}")

    def contract(self, *pairs: tuple[Tensor, Axis]) -> None:
        """The operands are summed along these axes, which are one."""
        for tensor, axis in pairs:
            self.unify(pairs[0][1], axis)
            self.trace.live.append(axis)
            position = next(i for i, operand in enumerate(self.operands) if operand is tensor)
            self.trace.enter(self.number, position, tensor, self.axes(tensor))

    def dim(self, argument: str, tensor: Tensor) -> int:
        """An axis of a tensor as a number from 0."""
        return self.arguments[argument] % max(tensor.ndim, 1)

    def mix(self, axes: Axes, along: Axes) -> None:
        """Entries were mixed along some axes of a tensor that has them still."""
        self.trace.mixes.append((axes, along))

    def types(self) -> list[Axes]:
        """The axes of all results."""
        found = self._found()
        if found is None or any(_sizes(a) != tuple(t.shape) for a, t in zip(found, self.results, strict=False)):
            return self._unknown()
        rest = [pinned(t, f"result of {self.name}") for t in self.results[len(found) :]]
        return [*found, *rest][: len(self.results)]

    def _found(self) -> Sequence[Axes] | None:
        """What the rule says; None if there is none."""
        if torch.Tag.nondeterministic_seeded in self.func.tags:
            return None
        if self.mutated is None and self.fills:
            return [tuple(Axis(size) for size in tensor.shape) for tensor in self.results]
        if any(t.numel() == 0 for t in self.operands) and self.name != "aten.cat":
            return None
        if self.func._overloadname.endswith("out"):
            return RULES["aten.pointwise"](self) if self.elementwise else None
        known = RULES.get(self.name) or RULES.get(self.name.removesuffix("_"))
        if known is None and self.elementwise:
            known = RULES["aten.pointwise"]
        return None if known is None else known(self)

    def _unknown(self) -> list[Axes]:
        """Pin what goes in, and what comes out."""
        reason = f"no rule for {self.name}"
        # Factories and what is made of constants touch no unit: nobody needs to hear of them.
        axes = [axis for t in self.operands if not self.trace.is_uniform(t) or t is self.mutated for axis in self.trace.axes(t)]
        if any(atom.pinned is None and atom.size > 1 for axis in axes for atom in atoms(axis)):
            self.trace.unknown[self.name] = None
        for axis in axes:
            pin(axis, reason)
        return [pinned(tensor, reason) for tensor in self.results]


def _named(*names: str) -> frozenset[str]:
    return frozenset(f"aten.{name}" for name in names)


# Elementwise operations that do not carry the tag of every torch that is allowed.
POINTWISE = _named("hardswish", "hardsigmoid", "log_sigmoid_forward", "_prelu_kernel", "leaky_relu", "lerp", "heaviside", "xlogy")
# Operations that hand their first argument on, entry by entry.
COPIES = _named(
    "_to_copy", "clone", "detach", "alias", "lift_fresh", "lift", "contiguous", "copy", "view", "expand", "unsqueeze", "squeeze",
    "select", "slice", "t", "transpose", "permute",
)  # fmt: skip
# Operations that make or leave one value throughout.
FILLS = _named(
    "zeros", "ones", "full", "empty", "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full",
    "new_empty", "zero", "fill",
)  # fmt: skip


def pinned(tensor: Tensor, reason: str) -> Axes:
    """New axes for a tensor, all pinned."""
    return tuple(Axis(size, pinned=reason) for size in tensor.shape)


def bound(func: torch._ops.OpOverload, args: tuple, kwargs: dict) -> dict[str, Any]:
    """The arguments of a call by name, defaults included."""
    schema = func._schema.arguments
    given = dict(zip((a.name for a in schema), args, strict=False))
    return {a.name: a.default_value for a in schema if a.has_default_value()} | given | kwargs


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _whole(tensor: Tensor) -> bool:
    """Whether the tensor is all of its memory."""
    return tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()


def _sizes(axes: Axes) -> tuple[int, ...]:
    return tuple(axis.size for axis in axes)
