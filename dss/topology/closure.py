"""What known barriers say of unknown ones: the two closures, the tree, the number of components.

Let c_ij be the infimum, over all paths from i to j, of the largest loss on the path, and c_ii the loss at i. A path from i to
j and one from j to k make a path from i to k, so c_ik <= max(c_ij, c_jk): c is an *ultrametric*. Of every c_ij an upper
value is known (a path's largest loss), and a lower one (the higher end's loss, or a wall that an obstruction proves). The
inequality spreads both:

- *upper*: c_ik <= the largest upper value on any chain from i to k. The best chain is the one in the minimum spanning tree
  (single linkage), and its paths, joined, are the witness;
- *lower*: of the three values of a triangle the two largest are equal. So where c_kj < c_ij is certain, c_ik = c_ij.

    upper = torch.tensor([[0., 1., 5.], [1., 0., 2.], [5., 2., 0.]])     # 5 is beaten by the detour over 1 and 2
    upper_closure(upper)                                                 # [[0, 1, 2], [1, 0, 2], [2, 2, 0]]
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

# The largest clique is searched for exactly among at most so many classes, and greedily among more.
EXACT = 24


@dataclass(frozen=True)
class Edge:
    """An edge of the spanning tree, `first < second`, and the classes that it joins, as sorted indices.

    Attributes:
        value: its upper value.
        first_class, second_class: of `first` and of `second`, below `value` in the order of edges.
    """

    first: int
    second: int
    value: float
    first_class: tuple[int, ...]
    second_class: tuple[int, ...]

    @property
    def pair(self) -> tuple[int, int]:
        """The two ends."""
        return self.first, self.second


def spanning_tree(values: Tensor) -> list[Edge]:
    """Kruskal's minimum spanning tree, in the order in which edges join classes; ties go to the lower indices.

    The order (value, first, second) is total, so the tree is unique; and lowering the value of one of its edges leaves it
    the minimum.

    Args:
        values: `(k, k)` symmetric; infinite where nothing is known. Pairs that only infinity joins stay apart.
    """
    count = len(values)
    first, second = torch.triu_indices(count, count, 1)
    weights = values[first, second]
    # A stable sort of pairs that are listed in the order of their indices breaks ties by them.
    order = weights.argsort(stable=True)
    classes: list[tuple[int, ...]] = [(i,) for i in range(count)]
    edges = []
    for place in order[weights[order] < inf].tolist():
        i, j = int(first[place]), int(second[place])
        one, other = classes[i], classes[j]
        if one is other:
            continue
        edges.append(Edge(i, j, weights[place].item(), one, other))
        joined = tuple(sorted(one + other))
        for member in joined:
            classes[member] = joined
        if len(joined) == count:
            break
    return edges


def upper_closure(values: Tensor, edges: Sequence[Edge] | None = None) -> Tensor:
    """For every pair the smallest, over all chains of pairs, of the chain's largest value: `(k, k)`.

    Args:
        values: `(k, k)` symmetric, the losses of the points on the diagonal, which stays.
        edges: the spanning tree of `values`, if it is known.
    """
    closed = torch.full_like(values, inf)
    for edge in spanning_tree(values) if edges is None else edges:
        one, other = torch.tensor(edge.first_class), torch.tensor(edge.second_class)
        # Edges come in ascending order, so this one is the largest of every chain that it completes.
        closed[one[:, None], other] = closed[other[:, None], one] = edge.value
    return closed.diagonal_scatter(values.diagonal())


def lower_closure(lower: Tensor, upper: Tensor) -> Tensor:
    """Lower values spread as far as the ultrametric inequality carries them, to a fixpoint: `(k, k)`.

    Args:
        lower: `(k, k)` symmetric lower values; c_ij >= lower_ij.
        upper: `(k, k)` closed upper values that are *certain*: what follows is proved only if they are.
    """
    closed = lower.clone()
    while True:
        before = closed.clone()
        for j in range(len(closed)):
            # upper_kj < lower_ij says that k is joined to j below what parts i from j: it is parted from i by as much.
            spread = torch.where(upper[None, :, j] < closed[:, None, j], closed[:, None, j], -inf)
            closed = torch.maximum(closed, torch.maximum(spread, spread.T))
        if torch.equal(before, closed):
            return closed


def classes_below(upper: Tensor, threshold: float) -> list[tuple[int, ...]]:
    """Points at or below a threshold, put together where closed upper values join them there; ordered by least member."""
    alive = torch.nonzero(upper.diagonal() <= threshold)[:, 0]
    if not len(alive):
        return []
    # Closed values are an ultrametric: the first point that is joined to i stands for i's class.
    first = (upper[alive][:, alive] <= threshold).int().argmax(1)
    found: dict[int, list[int]] = {}
    for i, leader in zip(alive.tolist(), first.tolist(), strict=True):
        found.setdefault(leader, []).append(i)
    return [tuple(members) for members in found.values()]


def parted(lower: Tensor, certain: Tensor, threshold: float) -> int:
    """A number of points at or below a threshold no two of which are joined there, for certain: the largest clique.

    Exact for up to 24 classes; among more it is found greedily, and is still a number of parted points.

    Args:
        lower: `(k, k)` closed lower values.
        certain: `(k, k)` closed upper values that are certain; points that they join are one class.
        threshold: the level.
    """
    members = [group[0] for group in classes_below(certain, threshold)]
    apart = (lower[members][:, members] > threshold).tolist()
    neighbours = [sum(1 << j for j, away in enumerate(row) if away and j != i) for i, row in enumerate(apart)]
    if len(members) > EXACT:
        return _greedy_clique(neighbours)
    return _largest_clique(neighbours, (1 << len(members)) - 1)


def _largest_clique(neighbours: Sequence[int], candidates: int) -> int:
    """The size of the largest clique among candidates, both sets as bits: with the first candidate, or without it."""
    if not candidates:
        return 0
    first = (candidates & -candidates).bit_length() - 1
    rest = candidates & ~(1 << first)
    with_first = 1 + _largest_clique(neighbours, rest & neighbours[first])
    # Without it something outside its neighbourhood must be in: else adding it would make the clique larger.
    return max(with_first, _largest_clique(neighbours, rest)) if rest & ~neighbours[first] else with_first


def _greedy_clique(neighbours: Sequence[int]) -> int:
    """The size of a clique that takes the points with most neighbours first."""
    order = sorted(range(len(neighbours)), key=lambda i: (-neighbours[i].bit_count(), i))
    clique = 0
    for i in order:
        if clique & ~neighbours[i] == 0:
            clique |= 1 << i
    return clique.bit_count()
