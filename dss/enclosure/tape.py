"""A pass through a network recorded once and played again: the same operations on other numbers, bit for bit.

A pass makes thousands of operations on small tensors, and most of its time goes to Python, `vmap` and memory, not to
arithmetic. Which operations there are depends on shapes and on what does not move alone: a rule cannot branch on a number of
a cell, a parameter or a sample (`vmap` forbids it), so the operations that torch was asked for once are those of every
cell and every sample of these shapes; whatever takes a number out of a tensor all the same ends the recording. Played from a list they need neither; views are taken once, results no longer needed
lend their memory to later ones, which keeps it in the cache.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dss.enclosure.recorder import Call, Recorder, storage_of, tensors_in

LARGEST = 2**30
"""Bytes of all results of a pass that may be recorded: they are held until the tape is made."""

aten = torch.ops.aten
_INTO = {
    aten.add: torch.add, aten.sub: torch.sub, aten.mul: torch.mul, aten.div: torch.div, aten.neg: torch.neg, aten.abs: torch.abs,
    aten.maximum: torch.maximum, aten.minimum: torch.minimum, aten.lerp: torch.lerp, aten.clamp: torch.clamp, aten.bmm: torch.bmm,
    aten.mm: torch.mm, aten.amax: torch.amax, aten.amin: torch.amin, aten.exp: torch.exp, aten.log: torch.log, aten.tanh: torch.tanh,
    aten.sigmoid: torch.sigmoid, aten.sqrt: torch.sqrt, aten.rsqrt: torch.rsqrt, aten.reciprocal: torch.reciprocal,
    aten.gather: torch.gather, aten.index_select: torch.index_select, aten.cat: torch.cat, aten.topk: torch.topk,
    aten.logsumexp: torch.logsumexp, aten.logaddexp: torch.logaddexp, aten.erfc: torch.erfc,
    aten.lt: torch.lt, aten.le: torch.le, aten.gt: torch.gt, aten.ge: torch.ge, aten.eq: torch.eq, aten.ne: torch.ne,
    aten.addcmul: torch.addcmul, aten.stack: torch.stack, aten.logical_and: torch.logical_and,
}  # fmt: skip
"""Operations that write their result into given memory without another pass, and what calls them at the least cost."""

_ENTRY_BY_ENTRY = {
    aten.add, aten.sub, aten.mul, aten.div, aten.neg, aten.abs, aten.maximum, aten.minimum, aten.lerp, aten.clamp, aten.exp, aten.log,
    aten.tanh, aten.sigmoid, aten.sqrt, aten.rsqrt, aten.reciprocal, aten.logaddexp, aten.erfc, aten.addcmul, aten.where, aten.rsub,
}  # fmt: skip
"""Operations that may write an entry of their result where the same entry of an argument was."""

_INTO_EXACTLY = {aten.where.self: torch.where, aten.sum.dim_IntList: torch.sum}
_SHAPED = {aten.new_zeros, aten.new_ones, aten.new_full, aten.zeros_like, aten.ones_like, aten.full_like}

_COPIES = {aten._to_copy, aten.clone}

_UNIT = {dtype: torch.ones((), dtype=dtype) for dtype in (torch.float32, torch.float64)}


class CannotRecord(Exception):
    """The pass depends on numbers, or is too large."""


class Tape:
    """A function of tensors as the list of its operations.

    Args:
        function: from tensors to one tensor, without a branch on their numbers.
        cell, block: its arguments, for example; the tape plays for tensors of these shapes and dtypes. What depends on `cell`
            alone is computed once for all blocks.
        most: bytes of results that may be held while the pass is recorded.

    Attributes:
        bytes: of the memory in which it plays.

    Raises:
        CannotRecord: the function reads or draws numbers, writes into constants, or is too large.
    """

    def __init__(self, function: Callable[..., Tensor], cell: Sequence[Tensor], block: Sequence[Tensor], *, most: int = LARGEST):
        self.cell, self.block = [x.clone() for x in cell], [x.clone() for x in block]
        with Recorder([*self.cell, *self.block], most) as recorder:
            output = function(*self.cell, *self.block)
        if recorder.obstacle is not None:
            raise CannotRecord(recorder.obstacle)
        calls = _needed(_without_constants(recorder.calls), storage_of(output))
        calls, same = _without_repetitions(calls)
        first, then = _parted(calls, {storage_of(x) for x in self.block}, same)
        memory = _Memory(first, then, storage_of(output), same)
        steps = [_step(call, memory, i) for i, call in enumerate([*first, *then])]
        self.before, self.steps = steps[: len(first)], steps[len(first) :]
        self.output = memory.placed(output)
        self.bytes = memory.bytes + sum(x.nbytes for x in (*self.cell, *self.block))

    def at(self, cell: Sequence[Tensor]) -> None:
        """Begin with another cell."""
        for own, given in zip(self.cell, cell, strict=True):
            own.copy_(given)
        _run(self.before)

    def play(self, block: Sequence[Tensor]) -> Tensor:
        """The function's value for the cell that was begun with: a new tensor."""
        for own, given in zip(self.block, block, strict=True):
            own.copy_(given)
        _run(self.steps)
        return self.output.clone()


def _run(steps: list[tuple[Callable, tuple, dict]]) -> None:
    for function, args, kwargs in steps:
        function(*args, **kwargs)


def _needed(calls: list[Call], output: int) -> list[Call]:
    """Those that the output depends on."""
    wanted, kept = {output}, []
    for call in reversed(calls):
        if (call.made | call.written) & wanted:
            kept.append(call)
            wanted |= call.read
    return kept[::-1]


def _all_written(calls: list[Call]) -> set[int]:
    return set().union(*(call.written for call in calls))


def _without_constants(calls: list[Call]) -> list[Call]:
    """Without those whose results have nothing of their arguments but shape and dtype, and are not written into."""
    written = _all_written(calls)
    return [call for call in calls if call.function.overloadpacket not in _SHAPED or call.made & written]


def _without_repetitions(calls: list[Call]) -> tuple[list[Call], dict[int, int]]:
    """Without operations that were made before on the same arguments; and which storages are then which others."""
    written, same, known, kept = _all_written(calls), {}, {}, []

    def name(x: Any) -> Any:
        if isinstance(x, (tuple, list, dict)):
            return tuple(map(name, x.items() if isinstance(x, dict) else x))
        if not isinstance(x, Tensor):
            return type(x), repr(x)
        return same.get(storage_of(x), storage_of(x)), x.storage_offset(), x.shape, x.stride(), x.dtype

    for call in calls:
        if (call.read | call.made | call.written) & written:
            kept.append(call)
            continue
        first = known.setdefault((call.function, name(call.args), name(call.kwargs)), call)
        if first is call:
            kept.append(call)
        else:
            same |= {storage_of(x): storage_of(y) for x, y in zip(call.results, first.results)}
    return kept, same


def _parted(calls: list[Call], block: set[int], same: dict[int, int]) -> tuple[list[Call], list[Call]]:
    """Those that do not depend on the block, and the others; what is written into is made anew for every block."""
    moving, first, then = block | _all_written(calls), [], []
    for call in calls:
        if ({same.get(x, x) for x in call.read} | call.made) & moving:
            moving |= call.made
            then.append(call)
        else:
            first.append(call)
    return first, then


class _Memory:
    """Where every storage of the pass lies when it is played: memory is lent again once it was read last.

    Args:
        first, then: the calls once for every cell, and those for every block. What the latter need of the former is never lent.
        output: the storage of the result.
        same: storages that are others.
    """

    def __init__(self, first: list[Call], then: list[Call], output: int, same: dict[int, int]):
        self.same, self.free, self.buffers, self.bytes = same, {}, {}, 0
        last: dict[int, int] = {}
        for i, call in enumerate([*first, *then]):
            last |= dict.fromkeys((same.get(storage, storage) for storage in call.read | call.written | call.made), i)
        kept = {storage for call in first for storage in call.made if last[storage] >= len(first)} | {same.get(output, output)}
        self.dying: dict[int, list[int]] = {}
        for storage, i in last.items():
            if storage not in kept:
                self.dying.setdefault(i, []).append(storage)

    def take_over(self, call: Call, i: int) -> None:
        """Let the result of an operation lie where an argument does that is read there for the last time, entry upon entry."""
        if call.function.overloadpacket not in _ENTRY_BY_ENTRY or len(call.results) != 1:
            return
        (x,), given = call.results, tensors_in(call.args, *call.kwargs.values())
        for storage in self.dying.get(i, ()):
            uses = [y for y in given if self.same.get(storage_of(y), storage_of(y)) == storage]
            if uses and storage in self.buffers and all(_lies_like(y, x) for y in uses):
                self.buffers[storage_of(x)] = self.buffers.pop(storage)
                return

    def made(self, x: Tensor) -> Tensor:
        """A fresh result's place."""
        storage, size = storage_of(x), x.untyped_storage().nbytes()
        if storage not in self.buffers:
            free = self.free.get(size)
            self.bytes += 0 if free else size
            self.buffers[storage] = free.pop() if free else torch.empty(size, dtype=torch.uint8)
        return self.placed(x)

    def placed(self, x: Tensor) -> Tensor:
        """A tensor of the recording as it lies when played; constants and inputs are themselves."""
        storage = storage_of(x)
        buffer = self.buffers.get(self.same.get(storage, storage))
        if buffer is None:
            return x
        return torch.empty(0, dtype=x.dtype).set_(buffer.untyped_storage(), x.storage_offset(), x.shape, x.stride())

    def release(self, i: int) -> None:
        """Lend what step `i` used last."""
        for storage in self.dying.get(i, ()):
            buffer = self.buffers.pop(storage, None)
            if buffer is not None:
                self.free.setdefault(len(buffer), []).append(buffer)


def _step(call: Call, memory: _Memory, i: int) -> tuple[Callable, tuple, dict]:
    """What is called when the tape is played, as step `i`."""
    args, kwargs = _placed(call.args, memory), {name: _placed(value, memory) for name, value in call.kwargs.items()}
    memory.take_over(call, i)
    results = [memory.made(x) for x in call.results] if call.made else []
    memory.release(i)
    packet = call.function.overloadpacket
    if not results:
        return call.function, args, kwargs
    if call.function == aten.rsub.Scalar and args[1:] == (1,) and not kwargs and args[0].dtype in _UNIT:
        return torch.sub, (_UNIT[args[0].dtype], args[0]), {"out": results[0]}
    if packet in _COPIES:
        return Tensor.copy_, (results[0], args[0]), {}
    into = _INTO.get(packet) or _INTO_EXACTLY.get(call.function)
    if into is None:
        return _copied, (results, call.function, args, kwargs), {}
    return into, args, {**kwargs, "out": results[0] if len(results) == 1 else tuple(results)}


def _lies_like(x: Tensor, other: Tensor) -> bool:
    """Whether the entries of two tensors lie in the same order in all of their memory."""
    layouts = [(y.dtype, y.shape, y.stride(), y.storage_offset(), y.untyped_storage().nbytes()) for y in (x, other)]
    return layouts[0] == layouts[1]


def _placed(value: Any, memory: _Memory) -> Any:
    if isinstance(value, Tensor):
        return memory.placed(value)
    return type(value)(_placed(part, memory) for part in value) if isinstance(value, (tuple, list)) else value


def _copied(results: list[Tensor], function: Callable, args: tuple, kwargs: dict) -> None:
    """For operations that make their results anew."""
    for place, result in zip(results, tensors_in(function(*args, **kwargs)), strict=True):
        place.copy_(result)
