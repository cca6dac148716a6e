"""Passes of a small network that are made again and again: recorded once, then played, bit for bit the same.

A step of a network of thousands of parameters spends more time in Python, modules and autograd than in arithmetic. Its operations
are those of every step of the same shapes, as long as nothing but tensors goes through it; a tape of them (`dss.enclosure.tape`)
needs none of the rest. What Python may have read from a tensor is not on the tape, so a pass is made as it is written for ever:

- where an operation takes numbers out of tensors, draws some, checks some, or writes into what the pass was given (the recorder sees
  operations, those of the way back too);
- where numbers are read past torch's operations (NumPy, lists), or by code of the caller's that runs on the way back;
- where what is played differs in one bit from the pass itself, at other parameters and other samples than the recorded ones.

Played or not, the numbers are the same, so a search does not depend on when recording began.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _get_current_dispatch_mode

from dss.base.memory import fitting
from dss.enclosure.tape import CannotRecord, Tape
from dss.objectives.network.rows import RowLosses, Tensors
from dss.objectives.network.samples import Samples

# Activations and points of a pass that is recorded, at most: above, arithmetic takes nearly all of the time (of 2 cores, one thread).
SMALL = 2**20
# All results of a pass that is recorded.
RECORDED = 2**25
# Passes of one kind before it is recorded: a recording takes as long as some four passes, its trials as long as two.
BEFORE = 6
# Plays that are compared with the pass itself.
TRIALS = 2
# Kinds of passes that are remembered, and bytes of their tapes; the one that was used last stays longest.
KINDS, KEPT = 64, 64 * 2**20

Pass = Callable[[Tensor, Tensors, Samples], Tensor]
"""From a group of points `(k, p)`, constants and samples to one tensor, without gradient."""


class Replays:
    """The passes of one model and loss.

    Args:
        rows: the model and its loss.
        bytes: what a pass keeps of one sample; None: nothing is recorded.
    """

    def __init__(self, rows: RowLosses, bytes: int | None = None):
        self.rows, self.bytes = rows, bytes
        self._kinds: dict[Hashable, _Kind] = {}

    def __reduce__(self):
        """Copies, also those in other processes, record their own."""
        return Replays, (self.rows, self.bytes)

    def takes(self, group: Tensor, part: Samples) -> bool:
        """Whether a pass is small enough to be recorded, and of a kind that may be."""
        # A convolution's time is arithmetic, and it cannot write into the tape's memory: its result is copied there.
        if self.bytes is None or group.device.type != "cpu" or self.rows.autocast is not None or self.rows.convolves:
            return False
        return self.bytes * len(part) * len(group) + group.nbytes <= fitting(SMALL)

    def of(self, function: Pass, name: Hashable, group: Tensor, constants: Tensors, part: Samples) -> Tensor:
        """What `function` returns for `(group, constants, part)`.

        Args:
            name: of the function: those of one name do the same.
        """
        # Whoever watches operations is to see those of the pass.
        if not self.takes(group, part) or _get_current_dispatch_mode() is not None:
            return function(group, constants, part)
        given = [*constants.values(), *part.leaves]
        kind = self._kind((name, self.rows.writes, *map(_layout, (group, *given))))
        played = kind.played(group, given)
        if played is None:
            kind.passes += 1
            if kind.passes == BEFORE:
                kind.record(function, group, constants, part)
                self._make_room()
            return function(group, constants, part)
        return played if kind.trials >= TRIALS else kind.tried(function(group, constants, part), played)

    def _kind(self, key: Hashable) -> "_Kind":
        kind = self._kinds[key] = self._kinds.pop(key, None) or _Kind()
        if len(self._kinds) > KINDS:
            del self._kinds[next(iter(self._kinds))]
        return kind

    def _make_room(self) -> None:
        """Forget tapes until the others are small together, the one that was used last never."""
        while len(self._kinds) > 1 and sum(kind.bytes for kind in self._kinds.values()) > fitting(KEPT):
            del self._kinds[next(iter(self._kinds))]


class _Kind:
    """Passes of the same shapes: how many were made as they are written, and their tape, if there is one.

    Attributes:
        trials: plays that gave what the pass gave.
    """

    def __init__(self) -> None:
        self.passes = self.trials = 0
        self._tape: Tape | None = None
        self._begun: list[tuple[Tensor, int]] = []
        self._last: Tensor | None = None

    @property
    def bytes(self) -> int:
        """Of the tape's memory."""
        return 0 if self._tape is None else self._tape.bytes

    def record(self, function: Pass, group: Tensor, constants: Tensors, part: Samples) -> None:
        """Make the pass once more, for the tape; there is none ever after if it cannot be followed."""
        names = list(constants)

        def of_tensors(*given: Tensor) -> Tensor:
            others, own = given[:-1], given[-1]
            return function(own, dict(zip(names, others)), part.with_leaves(others[len(names) :]))

        given = [x.detach() for x in (*constants.values(), *part.leaves)]
        try:
            with _unread():
                self._tape = Tape(of_tensors, given, [group], most=RECORDED)
        except Exception:  # the pass refuses to be watched; it will be made as it is written, and may say more then
            self._tape = None

    def played(self, group: Tensor, given: Sequence[Tensor]) -> Tensor | None:
        """What the tape gives; None without one."""
        if self._tape is None:
            return None
        try:
            with torch.no_grad():
                self._begin(self._tape, given)
                return self._tape.play([group])
        except Exception:  # the pass itself may say it in the caller's words
            self._tape = None
            return None

    def _begin(self, tape: Tape, given: Sequence[Tensor]) -> None:
        """Hand over the samples and constants, unless they are those of the last play."""
        same = (x is y and not x.is_inference() and x._version == version for x, (y, version) in zip(given, self._begun))
        if self._begun and all(same):
            return
        self._begun = []
        tape.at(given)
        self._begun = [(x, 0 if x.is_inference() else x._version) for x in given]

    def tried(self, found: Tensor, played: Tensor) -> Tensor:
        """What the pass itself gave, with which what was played must agree to the last bit."""
        if not _same_bits(found, played):
            self._tape = None
        elif self._last is None or not _same_bits(found, self._last):  # another place than the one before
            self.trials, self._last = self.trials + 1, found.clone()
        return found


def _layout(x: Tensor) -> Hashable:
    return x.shape, x.stride(), x.dtype


def _same_bits(one: Tensor, other: Tensor) -> bool:
    same = one.shape == other.shape and one.dtype == other.dtype
    return same and torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))


# What reads numbers without an operation that a recorder could see, or has code run where nobody looks.
_PAST_OPERATIONS: frozenset[Any] = frozenset(
    {Tensor.numpy, Tensor.__array__, Tensor.tolist, Tensor.__dlpack__, Tensor.data_ptr, Tensor.tensor_split, torch.tensor_split}
    | {Tensor.register_hook, Tensor.backward, torch.autograd.backward}
)


@contextmanager
def _unread() -> Iterator[None]:
    """A recording during which numbers must not be read past torch's operations.

    Raises:
        CannotRecord: some were.
    """
    with _Reads() as reads:
        yield
    if reads.found:
        raise CannotRecord("numbers are read past torch's operations")


class _Reads(TorchFunctionMode):
    """Notices what reads numbers; nothing is raised within the pass, which might catch it."""

    def __init__(self) -> None:
        super().__init__()
        self.found = False

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.found |= func in _PAST_OPERATIONS or (func is torch.autograd.grad and _runs_python(args[0]))
        return func(*args, **(kwargs or {}))


def _runs_python(outputs: Sequence[Tensor]) -> bool:
    """Whether Python code of somebody's is run on the way back from outputs: no mode sees what it reads."""
    waiting = [x.grad_fn for x in outputs]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        if isinstance(node, BackwardCFunction):
            return True
        following = {child for child, _ in node.next_functions} - seen if node is not None else ()
        waiting += following
        seen |= set(following)
    return False
