"""Samples that go through a network together: all of them, or those that agree in what the way through it depends on.

A `forward` may branch on its data (`if mask.all()`), which `vmap` cannot follow for samples that differ there. Texts of one length
do not differ in their masks, so that most networks of this kind take few groups of samples; what branches on everything takes them
one by one.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from dss.base.errors import EnclosureError
from dss.enclosure.passes import Pass

Fixed = tuple[int, ...]
"""Numbers of the tensors, among targets and inputs, on which the way depends."""


def way_of(passed: Callable[..., Pass], data: Sequence[Tensor], targets: int) -> tuple[Fixed, Pass]:
    """What the way through a network depends on, and what one sample meets on it.

    Args:
        passed: a pass of some samples.
        data: tensors `(n, ...)`: `targets` of the loss, then the model's inputs.

    Raises:
        EnclosureError: no sample can pass.
    """
    *first, last = _candidates(data, targets)
    for fixed in first:
        try:
            return fixed, _met(passed, data, fixed)
        except EnclosureError:  # a branch under `vmap`, or an operation without a rule, which the last one names
            continue
    return last, _met(passed, data, last)


def _met(passed: Callable[..., Pass], data: Sequence[Tensor], fixed: Fixed) -> Pass:
    """What samples meet that agree in the tensors `fixed`; of all groups, the first and the last are tried."""
    met = []

    def of_sample(*sample: Tensor) -> Tensor:
        met.append(passed(*(part[None] for part in sample)))
        return torch.zeros(1)

    groups = groups_of([data[i] for i in fixed]) if fixed else [torch.arange(len(data[0]))]
    for rows in groups[:1] + groups[1:][-1:]:
        together(of_sample, [x[rows[:2]] for x in data], fixed)
    return met[0]


def _candidates(data: Sequence[Tensor], targets: int) -> Iterator[Fixed]:
    """What it may depend on, to be tried in turn: nothing, one tensor in which many samples agree, all of these, everything."""
    yield ()
    shared = [i for i, x in enumerate(data) if not x.is_floating_point() and 2 * len(groups_of([x])) <= len(x)]
    yield from ((i,) for i in sorted(shared, key=lambda i: i < targets))  # it is mostly the model that branches
    if 1 < len(shared) < len(data):
        yield tuple(shared)
    yield tuple(range(len(data)))


def groups_of(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Places of samples that agree in tensors `(n, ...)` of whole numbers; real ones are not compared: each is a group."""
    n = len(tensors[0])
    if any(x.is_floating_point() for x in tensors):
        return list(torch.arange(n, device=tensors[0].device).split(1))
    kinds = torch.stack([x.reshape(n, -1).unique(dim=0, return_inverse=True)[1] for x in tensors], 1)
    which = kinds.unique(dim=0, return_inverse=True)[1]
    return [(which == kind).nonzero()[:, 0] for kind in range(int(which.max()) + 1)]


def together(function: Callable[..., Tensor], data: Sequence[Tensor], fixed: Fixed = (), chunk: int | None = None) -> Tensor:
    """Values of samples that agree in the tensors `fixed`, so many at once.

    Args:
        function: from one sample's tensors to a value, without a branch on those that are not fixed.
        data: tensors `(n, ...)`, n >= 1.
    """
    n = len(data[0])
    if len(fixed) == len(data):
        return function(*(x[0] for x in data)).expand(n, -1)
    dims, size = tuple(None if i in fixed else 0 for i in range(len(data))), chunk or n
    parts = ([x[0] if i in fixed else x[at : at + size] for i, x in enumerate(data)] for at in range(0, n, size))
    return torch.cat([torch.vmap(function, dims)(*part) for part in parts])
