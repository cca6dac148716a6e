"""The unknowns that entries share: which there are in a run, and how new ones come to be.

The gap that a kink leaves belongs to one entry. As an error it would grow by the *absolute* weights of every later
layer, which is what makes bounds of deep networks explode. As an unknown of its own it goes through them with its
sign, as affine arithmetic (Stolfi & de Figueiredo 1997) and zonotopes (Singh et al. 2018) have it. Only the largest
gaps of a tensor get one; the rest stay errors.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

DEEP = 12
"""ReLUs (or kinks like it) of a network beyond which their gaps are followed: every unknown costs a pass through each later layer."""

NARROW, MODERATE = 128, 8
"""Kinks over more entries than the first are wide; up to so many of them, the smaller parts of convolutions may be rounded to float32."""

CURVED = 6
"""Smooth functions of a network from which on their parts of third order are kept; softmax and norms count twice."""


class Run:
    """Counts the unknowns of one pass through a network, so that no two share a number.

    Attributes:
        count: unknowns so far.
        each: how many an operation may add.
        rough: whether convolutions may use float32.
        third: whether the first unknown is 4 tau^3 - 3 tau, the part of third order, which products and smooth functions then keep.
        curves: smooth functions so far.
        kinks, bends: kinks so far, and the wide ones among them; those of maxima left out.
        kinked: whether there were kinks, narrow ones too.
        nodes: the operations so far, for errors that are traced back (`adjoint`).
        refused: the first error that an operation raised: a `forward` that catches it goes a way that tensors would not.
    """

    def __init__(self, each: int, count: int = 0, *, rough: bool = True, third: bool = False):
        self.each, self.count, self.rough, self.third = each, max(count, int(third)), rough, third
        self.curves, self.kinks, self.bends, self.kinked, self.nodes = 0, 0, 0, False, []
        self.refused: Exception | None = None


_RUN: ContextVar[Run | None] = ContextVar("run", default=None)


@contextmanager
def run(each: int, count: int = 0, *, rough: bool = True, third: bool = False) -> Iterator[Run]:
    """Within it operations may add unknowns, `each` at most; without it there are only errors."""
    state = Run(each, count, rough=rough, third=third)
    token = _RUN.set(state)
    try:
        yield state
        if state.refused is not None:
            raise state.refused
    finally:
        _RUN.reset(token)


def current() -> Run | None:
    """The pass that is under way."""
    return _RUN.get()


def note_refusal(error: Exception) -> Exception:
    """The error, which ends the pass even if it is caught on the way."""
    state = current()
    if state is not None and state.refused is None:
        state.refused = error
    return error


def aligned(one: Tensor | None, other: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Both with rows for the same unknowns; what has fewer does not depend on the later ones."""
    if one is None or other is None or len(one) == len(other):
        return one, other
    # Row k is the same unknown in every tensor of a pass, and unknowns are only ever added: a shorter stack is one that was
    # made earlier, and its missing rows are zeros.
    count = max(len(one), len(other))
    return padded(one, count), padded(other, count)


def padded(signs: Tensor, count: int) -> Tensor:
    """With rows of zeros up to `count` of them."""
    missing = count - len(signs)
    return torch.cat([signs, signs.new_zeros(missing, *signs.shape[1:])]) if missing else signs


def total(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """The sum of two tensors' rows."""
    if one is None or other is None:
        return one if other is None else other
    count = max(len(one), len(other))
    return padded(one, count) + padded(other, count)


def keeps_third() -> bool:
    """Whether row 0 belongs to 4 tau^3 - 3 tau in this pass."""
    state = current()
    return state is not None and state.third


def wide(signs: Tensor | None, dims: int) -> Tensor | None:
    """Rows that broadcast like tensors of `dims` dimensions."""
    return None if signs is None else signs.reshape(len(signs), *[1] * (dims + 1 - signs.dim()), *signs.shape[1:])


def count_curve(times: int) -> None:
    """Note a smooth function."""
    state = current()
    if state is not None:
        state.curves += times


def count_bend(entries: int) -> None:
    """Note a ReLU or the like."""
    state = current()
    if state is not None:
        state.kinks, state.bends = state.kinks + 1, state.bends + (entries > NARROW)


def with_unknowns(signs: Tensor | None, gap: Tensor) -> tuple[Tensor | None, Tensor]:
    """The largest of the gaps `|g| <= gap` become unknowns: the rows with theirs, and the gaps that are left."""
    state = current()
    if state is not None:
        state.kinked = True
    if state is None or state.each == 0 or gap.dim() == 0:
        return signs, gap
    flat = gap.flatten()
    sizes, places = flat.topk(min(state.each, len(flat)))
    new = flat.new_zeros(len(sizes), len(flat)).scatter(1, places[:, None], sizes[:, None])
    old = new.new_zeros(state.count, *gap.shape) if signs is None else padded(signs, state.count)
    state.count += len(sizes)
    rows = torch.cat([old, new.reshape(len(sizes), *gap.shape)])
    return rows, flat.scatter(0, places, 0.0).reshape(gap.shape)
