"""What torch is asked for in a pass: the operations on what depends on its inputs, in their order."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dss.base.dispatch import DispatchMode

aten = torch.ops.aten
_READS_NUMBERS = {
    aten._local_scalar_dense,
    aten.is_nonzero,
    aten.equal,
    aten.nonzero,
    aten.masked_select,
    aten.unique_dim,
    aten._unique2,
    aten._ctc_loss,
    aten._pack_padded_sequence,
}
"""What takes numbers out of tensors: the way that Python goes from there is not on the tape."""

_SHAPES_BY_NUMBERS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
_BY_NUMBERS = (torch.bool, torch.uint8)
"""Indices of these dtypes say which entries there are."""


@dataclass
class Call:
    """An operation of the pass.

    Attributes:
        results: the tensors that it returned.
        written: storages that it wrote into, those of fresh results left out.
        made: storages of fresh results.
        read: storages of its arguments.
    """

    function: Any
    args: tuple
    kwargs: dict
    results: list[Tensor]
    written: set[int] = field(default_factory=set)
    made: set[int] = field(default_factory=set)
    read: set[int] = field(default_factory=set)


class Recorder(DispatchMode):
    """Notes the operations on what depends on the inputs; the rest is the same every time, and is kept as it is."""

    def __init__(self, inputs: Sequence[Tensor], most: int):
        super().__init__()
        self.most = most
        self.calls: list[Call] = []
        self.inputs = {storage_of(x) for x in inputs}
        self.moving = set(self.inputs)
        # What was read so far: a constant that is written into later on would be played with its last numbers throughout.
        self.read: set[int] = set()
        # Held, so that no two storages of a recording have the same address.
        self.held: list[Tensor] = list(inputs)
        self.bytes = 0
        self.obstacle: str | None = None

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self.obstacle is not None:
            return func(*args, **kwargs)
        given = {storage_of(x) for x in tensors_in(args, *kwargs.values())}
        results = func(*args, **kwargs)
        self.obstacle = self._noted(func, args, kwargs, given, tensors_in(results))
        if self.obstacle is not None:
            self.calls, self.held = [], []
        return results

    def _noted(self, func, args: tuple, kwargs: dict, given: set[int], found: list[Tensor]) -> str | None:
        """Keep a call, or say why there can be no tape. Nothing is raised within the pass, which might catch it."""
        self.held += found
        if torch.Tag.nondeterministic_seeded in func.tags:
            return f"{func} draws random numbers"
        moving, written = bool(given & self.moving), _written(func, args, kwargs)
        if not moving:
            return "a constant is written into what moves, or after it was read" if written & (self.moving | self.read) else None
        if any(x.is_complex() for x in tensors_in(args, *kwargs.values(), found)):
            return "complex numbers are not played as they were made"
        if _reads_numbers(func, args):
            return f"{func} takes a number out of a tensor"
        if not found:
            return f"{func} checks numbers, and returns no tensor"
        if written - self.moving or written & self.inputs:
            return "what moves is written into a constant or an input"
        made = {storage_of(x) for x in found} - given
        if made and len(made) < len(found):
            return f"{func} returns memory of its arguments beside its own"
        self.moving |= made
        self.bytes += sum(x.untyped_storage().nbytes() for x in found if storage_of(x) in made)
        self.read |= given
        if made or written:  # views are no work
            self.calls.append(Call(func, args, kwargs, found, written, made, given))
        return "the pass is too large" if self.bytes > self.most else None


def _reads_numbers(func, args: tuple) -> bool:
    """Whether what an operation returns, or its shape, is for Python to branch on."""
    if func.overloadpacket is aten.index:  # by whole numbers its shape is theirs, whatever their values
        return any(x.dtype in _BY_NUMBERS for x in tensors_in(args[1]))
    return func.overloadpacket in _READS_NUMBERS or not _SHAPES_BY_NUMBERS.isdisjoint(func.tags)


def storage_of(x: Tensor) -> int:
    return x.untyped_storage()._cdata


def tensors_in(*values: Any) -> list[Tensor]:
    """The tensors of arguments or results of an operation, lists of them included."""
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            found += tensors_in(*value)
    return found


def _written(func, args: tuple, kwargs: dict) -> set[int]:
    """The storages that an operation writes into."""
    if not func._schema.is_mutable:
        return set()
    found = set()
    for i, parameter in enumerate(func._schema.arguments):
        if parameter.alias_info is not None and parameter.alias_info.is_write:
            found |= {storage_of(x) for x in tensors_in(args[i] if i < len(args) else kwargs.get(parameter.name))}
    return found
