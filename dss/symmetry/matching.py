"""The order of one network's units that brings its arrays closest to another's.

Both networks are lists of arrays (blocks of parameters, or of activations) over the same groups of units. What is
maximised is the sum of their inner products, sum_t <A_t, P.B_t>; for parameters that minimises |a - P.b|, since
permutations keep norms. All groups but one fixed, it is a linear assignment problem (Ainsworth et al. 2023, alg. 1),
solved exactly; groups take turns until nothing rises. A group with others within its units is matched together with
them: an assignment inside every pair of units gives the pair's worth, then one over the units.

The first order is found group by group, from those arrays alone whose other groups are ordered already, the best known
group first. Where one network is a reordered copy of the other it is found so, however deep: a start from the order as
given compares arrays whose other axes are still shuffled, which is noise, and may end anywhere.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dss.symmetry.layout import Group, Permutations, identity, permuted
from dss.symmetry.terms import Term

# A rise below this share of the arrays' own size is rounding.
SMALLEST_RISE = 1e-12


@dataclass(frozen=True)
class Move:
    """Groups that are matched together: one alone, one with those within it, or one within a fixed order of another."""

    group: str
    inner: tuple[str, ...] = ()
    outer: str | None = None

    @property
    def groups(self) -> tuple[str, ...]:
        """All that it may move."""
        return (self.group, *self.inner)


@dataclass(eq=False)
class Order:
    """Where a matching stands: permutations, signs of reflected units, and B's arrays so arranged."""

    permutations: dict[str, Tensor]
    signs: dict[str, Tensor]
    arrays: list[Tensor]
    known: set[str] = field(default_factory=set)


@dataclass(frozen=True, eq=False)
class Proposal:
    """What a move would do on top of the present order."""

    permutations: Permutations
    signs: Mapping[str, Tensor] = field(default_factory=dict)


class Matching:
    """Coordinate ascent over the groups of two networks.

    Args:
        groups: by name.
        terms: the arrays to be compared.
        reflected: groups whose units may also change sign.
    """

    def __init__(self, groups: Mapping[str, Group], terms: Sequence[Term], reflected: Iterable[str] = ()):
        self.groups, self.terms, self.reflected = groups, terms, set(reflected)
        self.moves = _moves(groups)
        self._holding = {name: [t for t, term in enumerate(terms) if name in term.axes] for name in groups}
        self._energy = [term.a.square().sum().item() + term.b.square().sum().item() for term in terms]

    def run(self, generator: torch.Generator, restarts: int = 1) -> Order:
        """The best order of `restarts` starts: the first group by group, the second from the order as given, then random ones."""
        best, value = None, float("-inf")
        for number in range(restarts):
            order = self._start(number, generator)
            self._ascend(order, generator)
            if (reached := self.value(order)) > value:
                best, value = order, reached
        assert best is not None
        return best

    def value(self, order: Order) -> float:
        """The sum of inner products, () in all."""
        return sum((term.a * array).sum().item() for term, array in zip(self.terms, order.arrays, strict=True))

    def _start(self, number: int, generator: torch.Generator) -> Order:
        order = Order(
            identity(self.groups),
            {name: torch.ones(self.groups[name].size, dtype=torch.float64) for name in self.reflected},
            [term.b.clone() for term in self.terms],
        )
        if number == 0:
            self._build(order)
        if number > 1:
            draws = {
                name: torch.rand(group.shape, generator=generator, dtype=torch.float64).argsort(-1)
                for name, group in self.groups.items()
            }
            self._carry_out(order, Proposal(draws))
        return order

    def _build(self, order: Order) -> None:
        """Match one group after the other, each by what is known so far."""
        while waiting := [move for move in self.moves if self._is_next(move, order.known)]:
            usable = {move: self._usable(move, order.known) for move in waiting}
            move = max(waiting, key=lambda move: self._share(move, usable[move]))
            if usable[move]:
                self._carry_out(order, self._propose(move, order, usable[move]))
            # What nothing is known of within a unit is left for later, when the unit itself is.
            order.known |= {move.group, *(g for g in move.inner if any(g in self.terms[t].axes for t in usable[move]))}

    def _is_next(self, move: Move, known: set[str]) -> bool:
        ready = move.outer is None or move.outer in known or move.outer not in self.groups
        return move.group not in known and ready

    def _usable(self, move: Move, known: set[str]) -> list[int]:
        """Terms of the move whose other groups are ordered; of groups within, one at a time is compared."""
        return [
            t
            for t in self._of(move)
            if sum(name in move.inner for name in self.terms[t].axes) <= 1
            and self.terms[t].axes.count(move.group) <= 1
            and all(name in known or name not in self.groups or name in move.groups for name in self.terms[t].axes)
        ]

    def _share(self, move: Move, usable: Sequence[int]) -> float:
        """The part of what the move concerns that is usable."""
        whole = sum(self._energy[t] for t in self._of(move))
        return sum(self._energy[t] for t in usable) / whole if whole else 0.0

    def _of(self, move: Move) -> list[int]:
        """The terms that a move concerns; a group's hold all those within it."""
        return self._holding[move.group]

    def _ascend(self, order: Order, generator: torch.Generator) -> None:
        """Moves in random order until none raises the value; one is tried again when a group beside its own has moved."""
        stale = set(self.moves)
        while stale:
            for index in torch.randperm(len(self.moves), generator=generator).tolist():
                move = self.moves[index]
                if move in stale:
                    stale.discard(move)
                    if self._improve(move, order):
                        stale |= self._touched(move)

    def _touched(self, move: Move) -> set[Move]:
        """Moves that share a term with this one; itself too where it meets itself, for then it was linearised."""
        names = {name for t in self._of(move) for name in self.terms[t].axes}
        squared = any(len(self.terms[t].axes) > len(set(self.terms[t].axes)) for t in self._of(move))
        return {other for other in self.moves if other.group in names and (other != move or squared or move.inner)}

    def _improve(self, move: Move, order: Order) -> bool:
        """Carry the move's proposal out if the value rises; whether it did."""
        concerned = self._of(move)
        if not concerned:
            return False
        proposal = self._propose(move, order, concerned)
        if _is_idle(proposal):
            return False
        before = [order.arrays[t] for t in concerned]
        after = [self._moved(self.terms[t], order.arrays[t], proposal) for t in concerned]
        rise = sum((self.terms[t].a * (y - x)).sum().item() for t, x, y in zip(concerned, before, after, strict=True))
        if not rise > SMALLEST_RISE * sum(self._energy[t] for t in concerned):
            return False
        for t, array in zip(concerned, after, strict=True):
            order.arrays[t] = array
        self._note(order, proposal)
        return True

    def _carry_out(self, order: Order, proposal: Proposal) -> None:
        order.arrays = [self._moved(term, array, proposal) for term, array in zip(self.terms, order.arrays, strict=True)]
        self._note(order, proposal)

    def _moved(self, term: Term, array: Tensor, proposal: Proposal) -> Tensor:
        """One of B's arrays after a proposal."""
        array = permuted(array, (*term.axes, None), self.groups, proposal.permutations)
        for dim, name in enumerate(term.axes):
            if name in proposal.signs and term.odd[dim]:
                array = array * proposal.signs[name].reshape([-1 if d == dim else 1 for d in range(array.ndim)])
        return array

    def _note(self, order: Order, proposal: Proposal) -> None:
        """Permutations and signs, those of before and then the proposal's; what is within a unit goes where the unit goes."""
        for name, group in self.groups.items():
            found = order.permutations[name]
            if group.within is not None and group.within in proposal.permutations:
                found = found[proposal.permutations[group.within]]
            if name in proposal.permutations:
                found = found.gather(-1, proposal.permutations[name])
            order.permutations[name] = found
            if name in order.signs and name in proposal.permutations:
                order.signs[name] = order.signs[name][proposal.permutations[name]] * proposal.signs.get(name, 1)

    def _propose(self, move: Move, order: Order, usable: Sequence[int]) -> Proposal:
        """The best order of the move's groups, by the terms that are usable, all others as they stand."""
        if move.outer is not None:
            return Proposal({move.group: self._within(move.group, move.outer, order, usable)})
        if move.inner:
            return Proposal(self._nested(move, order, usable))
        even, odd = self._alone(move.group, order, usable)
        if move.group not in self.reflected:
            return Proposal({move.group: assignment(even + odd)})
        # A reflected unit meets another with whichever sign suits them.
        best = assignment(even + odd.abs())
        signs = torch.where(odd[torch.arange(len(best)), best] < 0, -1.0, 1.0).double()
        return Proposal({move.group: best}, {move.group: signs})

    def _alone(self, name: str, order: Order, usable: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Inner products `(n, n)` of units of A with units of B: of what keeps its sign under reflection, and of the rest."""
        size = self.groups[name].size
        found = [torch.zeros(size, size, dtype=torch.float64) for _ in range(2)]
        for term, dim, a, b in self._pairs(usable, order, lambda axes: [(d,) for d, n in enumerate(axes) if n == name]):
            found[bool(term.odd) and term.odd[dim[0]]] += a @ b.T
        return found[0], found[1]

    def _within(self, name: str, outer: str, order: Order, usable: Sequence[int]) -> Tensor:
        """For each unit of a fixed outer order the best order `(blocks, n)` inside."""
        group = self.groups[name]
        found = torch.zeros(group.blocks, group.size, group.size, dtype=torch.float64)
        for _, _, a, b in self._pairs(usable, order, lambda axes: _dims(axes, outer, name)):
            found += a @ b.transpose(1, 2)
        return torch.stack([assignment(similarity) for similarity in found])

    def _nested(self, move: Move, order: Order, usable: Sequence[int]) -> dict[str, Tensor]:
        """The best order of units and of what is within them: each pair of units is worth its best order inside."""
        count = self.groups[move.group].size
        alone = [t for t in usable if not set(move.inner) & set(self.terms[t].axes)]
        worth = sum(self._alone(move.group, order, alone))
        assert isinstance(worth, Tensor)
        inside = {}
        for name in move.inner:
            best, values = self._inside(move, name, order, usable)
            inside[name], worth = best, worth + values
        units = assignment(worth)
        return {move.group: units} | {name: best[torch.arange(count), units] for name, best in inside.items()}

    def _inside(self, move: Move, name: str, order: Order, usable: Sequence[int]) -> tuple[Tensor, Tensor]:
        """For every pair of units the best order `(blocks, blocks, n)` of one group within, and its worth `(blocks, blocks)`."""
        group = self.groups[name]
        side = group.blocks * group.size
        found = torch.zeros(side, side, dtype=torch.float64)
        for term, _, a, b in self._pairs(usable, order, lambda axes: _dims(axes, move.group, name)):
            # A term that several of the groups share is counted once in all.
            shared = sum(axis in move.inner for axis in term.axes)
            found += a.flatten(0, 1) @ b.flatten(0, 1).T / shared
        pairs = found.view(group.blocks, group.size, group.blocks, group.size).transpose(1, 2)
        best = torch.stack([torch.stack([assignment(pair) for pair in row]) for row in pairs])
        return best, pairs.gather(3, best[..., None]).sum((2, 3))

    def _pairs(self, usable: Sequence[int], order: Order, dims: Callable[[Sequence[str]], list[tuple[int, ...]]]):
        """(term, dims, A's rows, B's rows) of the usable terms, once for each way in which the dims occur."""
        for t in usable:
            term = self.terms[t]
            for chosen in dims(term.axes):
                yield term, chosen, term.rows(term.a, *chosen), term.rows(order.arrays[t], *chosen)


def assignment(similarity: Tensor) -> Tensor:
    """The permutation p that maximises the sum of `similarity[i, p[i]]`, of `(n, n)`."""
    from scipy.optimize import linear_sum_assignment

    return torch.from_numpy(linear_sum_assignment(similarity.numpy(), maximize=True)[1])


def _dims(axes: Sequence[str], outer: str, inner: str) -> list[tuple[int, ...]]:
    return [(axes.index(outer), dim) for dim, name in enumerate(axes) if name == inner]


def _moves(groups: Mapping[str, Group]) -> list[Move]:
    """Each group with those within it, then those within by themselves."""
    whole = [
        Move(name, tuple(inner for inner, group in groups.items() if group.within == name))
        for name, group in groups.items()
        if group.within is None
    ]
    return whole + [Move(name, outer=group.within) for name, group in groups.items() if group.within is not None]


def _is_idle(proposal: Proposal) -> bool:
    """Whether it moves nothing."""
    still = all(torch.equal(p, torch.arange(p.shape[-1]).expand(p.shape)) for p in proposal.permutations.values())
    return still and all(bool((s > 0).all()) for s in proposal.signs.values())
