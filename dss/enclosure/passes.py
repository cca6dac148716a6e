"""One pass through a network: what is kept on the way, what was met so far, and the operations for errors that are traced back."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

DEEP = 12
"""ReLUs (or kinks like it) of a network beyond which errors are traced back inside it too."""

NARROW, MODERATE = 128, 8
"""Kinks over more entries than the first are wide; up to so many of them, the smaller parts of convolutions may be rounded to float32."""

CURVED, WINDING = 6, 12
"""Smooth functions of a network (softmax and norms count twice) from which on their parts of third order are kept, and errors traced
back inside it."""


class Pass:
    """What a pass through a network keeps and meets.

    Attributes:
        rough: whether convolutions may use float32.
        third: whether parts of third order are kept.
        inside: whether errors are traced back at places inside the network.
        curves: smooth functions so far.
        kinks, bends: kinks so far, and the wide ones among them; those of maxima left out.
        kinked: whether there were kinks, those of maxima too.
        nodes, refined: the operations so far, for errors that are traced back (`adjoint`), and which gave what was traced back inside.
        refused: the first error that an operation raised: a `forward` that catches it goes a way that tensors would not.
    """

    def __init__(self, *, rough: bool = True, third: bool = False, inside: bool = False):
        self.rough, self.third, self.inside = rough, third, inside
        self.curves, self.kinks, self.bends, self.kinked, self.nodes = 0, 0, 0, False, []
        self.refined: list[int] = []
        self.refused: Exception | None = None


_PASS: ContextVar[Pass | None] = ContextVar("pass", default=None)


@contextmanager
def under_way(*, rough: bool = True, third: bool = False, inside: bool = False) -> Iterator[Pass]:
    """A pass; without one, operations keep what they keep by default and note nothing."""
    state = Pass(rough=rough, third=third, inside=inside)
    token = _PASS.set(state)
    try:
        yield state
        if state.refused is not None:
            raise state.refused
    finally:
        _PASS.reset(token)


def current() -> Pass | None:
    """The pass that is under way."""
    return _PASS.get()


def note_refusal(error: Exception) -> Exception:
    """The error, which ends the pass even if it is caught on the way."""
    state = current()
    if state is not None and state.refused is None:
        state.refused = error
    return error


def keeps_third() -> bool:
    """Whether parts of third order are kept."""
    state = current()
    return state is not None and state.third


def count_curve(times: int) -> None:
    """Note a smooth function."""
    state = current()
    if state is not None:
        state.curves += times


def note_kink() -> None:
    """Note a kink of any kind."""
    state = current()
    if state is not None:
        state.kinked = True


def count_kink(entries: int) -> int:
    """Note a ReLU or the like; how many there were, with it."""
    note_kink()
    state = current()
    if state is None:
        return 0
    state.kinks, state.bends = state.kinks + 1, state.bends + (entries > NARROW)
    return state.kinks
