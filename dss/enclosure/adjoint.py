"""Errors weighed by what they do to the output, instead of by absolute weights layer after layer.

An enclosure's error bounds E = value - (center + slope tau + bend q + twist T_3), entry by entry. What an operation makes of
it is L E_in + xi, with a known linear map L (the operation's derivative at the center) and a local remainder
|xi| <= local: gaps of kinks, products of third order, rounding. Going forward only |E_out| <= |L| error_in + local can
be kept, and absolute values compound. Once the output is there, row k of it is traced back with signs, as adjoints are:

    |E_k| <= sum over operations of <|A|, local>,    A_in = L^T A_out,    A = e_k at the output.

This is affine arithmetic with an unknown for every entry of every operation, for the price of a backward pass per entry
of the output; CROWN (Zhang et al. 2018) does the same for kinks, dual weighted residuals (Becker & Rannacher 2001) for
differential equations. Ranges inside the network stay what they were, but in deep networks, where errors are traced back at
places inside too (`refined`).

The weights A may be rounded: with any A, E_k differs from the sum by <A_in - L^T A_out, E_in>. For a float32 sum of n
products that is at most gamma_n <|A_out|, |L| error_in>, which a share gamma_n of the error in `local` covers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import takewhile

import torch
from torch import Tensor

from dss.base.compiler import without_compiler
from dss.enclosure.passes import current
from dss.enclosure.rounding import UNIT32, gamma, is_plain_float32
from dss.enclosure.value import Enclosure

MOST_ROWS = 32
"""Tensors with more entries keep the errors that were carried forward: each entry costs a backward pass."""

INNER_ROWS, INNER_ENTRIES = 256, 2**17
"""The same inside a network; and rows times the entries of the largest tensor before, which is what a sample takes in memory."""

GROUP_ENTRIES = 2**18
"""The same where groups of entries are traced back together."""

WINDOW = 2
"""As far back as so many places inside are errors traced there."""

LONG = 2**16
"""Sums of more terms than this are taken in float64."""

FLOOR = 1e-30
"""More than underflow takes from a sum of ten million products in float32, relative to the other factors."""


Pull = Callable[[Tensor], Sequence[Tensor]]


@dataclass
class Node:
    """Where the error of a tensor comes from.

    Attributes:
        place: its number in the pass.
        error: the bound on |E|.
        carried: what of it comes from the sources, |L| times their errors; None for all of it.
        sources: places of the tensors whose errors are passed on.
        pull: from weights of the result to those of the sources, the transpose of L.
        lost: relative rounding of `pull`.
        apart: groups of entries that stay apart: where it is a multiple of m, and tensors are m runs of equal length in the order of their
            entries, a run of the result depends on the same run of each source alone.
    """

    place: int
    error: Tensor
    carried: Tensor | None
    sources: tuple[int, ...]
    pull: Pull
    lost: float
    apart: int = 1


def is_number(x: Enclosure) -> bool:
    """Whether one number bounds the errors of all entries (rounding of weights; none of constants): it is reckoned as local where it is
    met."""
    return x.exact or x.error.dim() == 0 < x.center.dim()


def tracked(result: Enclosure, carried: Tensor | None, sources: Sequence[Enclosure], pull: Pull, *,
            terms: int = 1, mixes: int | None = None) -> Enclosure:  # fmt: skip
    """`result`, with a note of where its error comes from.

    Args:
        carried: what of `result.error` is |L| times the errors of the sources; None for all of it.
        sources: the arguments of L. If the error of one is a number, nothing is noted, and the result is a source itself.
        pull: from weights of the result to those of every source, linear.
        terms: products that a sum in `pull` has at most; 0 if it only moves weights about.
        mixes: how many of the last dimensions an entry depends on whole; in those before it depends on its own place alone, as far as
            tensors of the same number of dimensions share their sizes. None: on all.
    """
    state = current()
    if state is None or any(map(is_number, (result, *sources))):
        return result
    if carried is not None:  # a small source in a large sum
        carried = carried.expand(result.center.shape)
    places = tuple(_place(state.nodes, x) for x in sources)
    return _noted(
        state.nodes, result, carried, places, pull, _lost(terms), 1 if mixes is None else _shared(mixes, result, *sources)
    )


def _shared(mixes: int, *tensors: Enclosure) -> int:
    """How many places there are in the leading dimensions that all share, but for the last `mixes`."""
    shapes = [x.center.shape for x in tensors]
    if len(set(map(len, shapes))) > 1:
        return 1
    leading = takewhile(lambda sizes: len(set(sizes)) == 1, zip(*(shape[: max(0, len(shape) - mixes)] for shape in shapes)))
    return max(1, math.prod(sizes[0] for sizes in leading))


def through(result: Enclosure, x: Enclosure, carry: Callable[[Tensor], Tensor], pull: Callable[[Tensor], Tensor], *,
            terms: int = 1, apart: bool = False) -> Enclosure:  # fmt: skip
    """Like `tracked`, for a map that keeps absolute values (|L^T w| = |L|^T |w|: each entry of `x` goes to one place).

    What is local to `x` may then as well count as local to the result, which saves a product. If `x` is a source, the
    result is one.

    Args:
        carry: from errors of `x` to |L| times them.
        apart: whether entries keep their order.
    """
    state, inner = current(), x.node
    if state is None or is_number(x) or not _is_noted(state.nodes, x) or not inner.sources:
        return result
    carried = carry(x.error if inner.carried is None else inner.carried)
    lost, groups = inner.lost + _lost(terms), inner.apart if apart else 1
    return _noted(state.nodes, result, carried, inner.sources, lambda weight: inner.pull(pull(weight)), lost, groups)


def _noted(nodes: list[Node], result: Enclosure, carried: Tensor | None, sources: tuple[int, ...], pull: Pull,
           lost: float, apart: int = 1) -> Enclosure:  # fmt: skip
    result.node = Node(len(nodes), result.error, carried, sources, pull, lost, apart)
    nodes.append(result.node)
    return result


def _lost(terms: int) -> float:
    return gamma(terms, UNIT32) if terms else 0.0


def transposed(function: Callable, *templates: Tensor) -> Callable:
    """The `pull` of a linear function of tensors shaped like the templates."""
    every = tuple(range(len(templates)))

    def pull(weight: Tensor) -> tuple[Tensor, ...]:
        zeros = (torch.zeros_like(template, dtype=weight.dtype) for template in templates)
        # What `torch.func.vjp` finds; that imports sympy to compare shapes.
        with without_compiler():
            return torch.func.grad(lambda *parts: (function(*parts) * weight).sum(), every)(*zeros)

    return pull


def sharpened(x: Enclosure) -> Enclosure:
    """The same values, with errors by tracing back where that is affordable and less.

    Errors of smooth networks are of third order anyway: there it costs more than it spares.
    """
    state = current()
    if state is None or not (state.kinked or state.inside) or is_number(x) or not 0 < x.center.numel() <= MOST_ROWS:
        return x
    return _with_traced(x, state.nodes[: _place(state.nodes, x) + 1])


def refined(x: Enclosure) -> Enclosure:
    """The same inside a deep network, for the ranges of what comes next.

    Errors are traced back no farther than to the second such place before: all the way, each would cost a pass through the whole
    network. Weights that are traced back from later ones pass on to the sources of `x`.
    """
    state, count = current(), x.center.numel()
    if state is None or not state.inside or is_number(x) or not _is_noted(state.nodes, x):
        return x
    nodes = state.nodes[: x.node.place + 1]
    start = min(state.refined[-WINDOW] if len(state.refined) >= WINDOW else 0, x.node.place)
    most, groups = max(node.error.numel() for node in nodes), 1
    if count > INNER_ROWS or count * most > INNER_ENTRIES:
        groups = math.prod(x.shape[:-1])
        if groups == 1 or x.shape[-1] > INNER_ROWS or not _pays(nodes, start, groups):
            return x
    result = tracked(_with_traced(x, nodes, start, groups), None, (x,), lambda weight: (weight,), terms=0, mixes=0)
    state.refined.append(result.node.place)
    return result


def _pays(nodes: list[Node], start: int, groups: int) -> bool:
    """Whether groups of the last node's entries are worth tracing back together: through two products with matrices, before they meet."""
    rows, met, wanted, products = nodes[-1].error.numel() // groups, 0, {nodes[-1].place}, 0
    for node in reversed(nodes[start:]):
        if node.place in wanted:
            met = max(met, node.error.numel())
            if node.apart % groups == 0:
                wanted |= set(node.sources)
                products += node.lost > _lost(2 * rows)
    return products >= 2 and rows * met <= GROUP_ENTRIES


def _with_traced(x: Enclosure, nodes: list[Node], start: int = 0, groups: int = 1) -> Enclosure:
    """`x`, the result of the last node, with errors that are traced back as far as `start` where they are less.

    Entries at the same place of several groups are traced back together, as far as the groups stay apart: weights of one never meet
    those of another.
    """
    dtype = torch.float32 if is_plain_float32(x.device) else torch.float64
    # What underflow may take from weights, times the errors they meet.
    floor = FLOOR * reduce(torch.add, (node.error.sum() for node in nodes), x.center.new_ones(()))
    rows, shape = torch.eye(x.center.numel() // groups, dtype=dtype, device=x.device), x.center.shape
    traced = torch.vmap(lambda row: _traced(nodes, start, row.expand(groups, -1).reshape(shape), floor, groups))(rows)
    traced = traced.T.reshape(shape).to(torch.float64) + floor
    # A NaN knows nothing, and loses.
    result = Enclosure(x.center, x.slope, torch.where(traced < x.error, traced, x.error), x.bend, x.twist)
    result.ragged = x.ragged
    return result


def _is_noted(nodes: list[Node], x: Enclosure) -> bool:
    """Whether this pass knows where the error of `x` comes from, which was not widened since."""
    node = x.node
    return node is not None and node.error is x.error and node.place < len(nodes) and nodes[node.place] is node


def _place(nodes: list[Node], x: Enclosure) -> int:
    """The node of `x`, which is a source of its own if nobody noted anything else."""
    if not _is_noted(nodes, x):
        _noted(nodes, x, torch.zeros_like(x.error), (), lambda weight: (), 2 * UNIT32)
    return x.node.place


def _traced(nodes: list[Node], start: int, weight: Tensor, floor: Tensor, groups: int) -> Tensor:
    """Bounds `(groups,)` on |<weight, E>| over each group of the last node's entries, but for `floor`; what comes from before
    `start`, or where groups meet, counts as it is known."""
    weights, total = {len(nodes) - 1: weight}, weight.new_zeros(groups)
    summed: set[int] = set()  # where weights were added, and what the last sum lost is to be reckoned yet
    for node in reversed(nodes[start:]):
        if node.place not in weights or node.apart % groups:
            continue
        weight, lost = weights.pop(node.place), node.lost + _lost_by_sum(node.place in summed)
        if node.carried is not None or lost:
            total = total + _product(weight, _local(node, lost), floor, groups)
        for source, part in zip(node.sources, node.pull(weight) if node.sources else (), strict=True):
            if source in summed:  # other weights than those of the next sum
                total = total + _product(weights[source], _lost_by_sum(True) * nodes[source].error, floor, groups)
            if source in weights:
                part = weights[source] + part
                summed.add(source)
            weights[source] = part
    for place, weight in weights.items():
        error = (1 + _lost_by_sum(place in summed)) * nodes[place].error
        total = total + _product(weight, error, floor, groups)
    return total * (1 + 4 * gamma(len(nodes), UNIT32))


def _lost_by_sum(summed: bool) -> float:
    """Of the error that weights meet, what rounding their sum takes."""
    return 2 * UNIT32 * summed


def _local(node: Node, lost: float) -> Tensor:
    """The bound on what does not come from the sources, and on what rounding takes from their weights."""
    rounding = lost * node.error
    return rounding if node.carried is None else (node.error - node.carried).clamp(min=0.0) + rounding


def _product(weight: Tensor, local: Tensor, floor: Tensor, groups: int) -> Tensor:
    """<|weight|, local> for each group, rounded up, and what weights pulled from these may have lost by underflow."""
    dtype = weight.dtype if weight.numel() <= LONG else torch.float64
    one, other = weight.abs().to(dtype), (local + floor).to(dtype).expand(weight.shape)
    # Two passes, which take less than a product of a matrix and a vector for each sample.
    found = (one * other).reshape(groups, weight.numel() // groups).sum(1)
    return found.to(weight.dtype) * (1 + 4 * gamma(min(weight.numel(), LONG), UNIT32))
