"""Units that may be rescaled or reflected: what comes in times c, what goes out over c, and the function is the same.

Which parameters belong to the one side and which to the other is asked of the network, not of a table of layers: a
factor c_i = exp(s) with exponents e_k on the places k where unit i occurs leaves the outputs alone for small s iff
sum_k e_k <d output / d w_ki, w_ki> = 0, whatever the output and the input. So the exponents span the null space of a small
matrix; those of integers are then tried with factors that are not small. ReLU units have (in: 1, out: -1), the features
of an attention head (query: 1, key: -1), a unit behind BatchNorm (affine: 1, next: -1), and gates have none.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from dss.symmetry.evaluation import difference
from dss.symmetry.layout import Block, Group
from dss.symmetry.specification import TOLERANCE, Specification, generic_state

# Backward passes that the null space rests on, each with random inputs' outputs weighed at random.
PROBES = 8
# Generic states at which a candidate has to leave the outputs as they are.
STATES = 3
# A singular value below this share of the largest is zero; rounding stays below it by orders of magnitude.
VANISHING = 1e-9
# Subsets of places that are tried for reflection number 2^k - 1.
MOST_PLACES = 5
# Rounds of balancing, each of all groups, end when no factor is farther from 1 than this.
ROUNDS, SETTLED = 1000, 1e-13


@dataclass(frozen=True)
class Place:
    """One axis of a block of a parameter along which a group's units lie."""

    parameter: str
    block: Block
    dim: int

    def along(self, group: Group, units: Tensor) -> Tensor:
        """Numbers of the units, of the group's shape, laid along the axes of the block."""
        shape = [1] * len(self.block.sizes)
        shape[self.dim] = group.size
        if group.within is not None:
            outer = self.block.axes.index(group.within)
            shape[outer] = group.blocks
            units = units if outer < self.dim else units.T
        return units.reshape(shape)

    def summed(self, group: Group, array: Tensor) -> Tensor:
        """An array of the block summed over all but the units: of the group's shape."""
        if group.within is None:
            return array.movedim(self.dim, 0).flatten(1).sum(1) if array.ndim > 1 else array
        return array.movedim((self.block.axes.index(group.within), self.dim), (0, 1)).reshape(*group.shape, -1).sum(2)


@dataclass(frozen=True)
class Scaling:
    """A group whose units may be scaled: parameters at the places times c ** exponent."""

    group: Group
    places: tuple[Place, ...]
    exponents: tuple[int, ...]

    def scaled(self, state: Mapping[str, Tensor], factors: Tensor) -> dict[str, Tensor]:
        """The state with unit i scaled by factor i, of the group's shape; signs of factors reflect."""
        result = {name: tensor.contiguous().clone() for name, tensor in state.items()}
        for place, exponent in zip(self.places, self.exponents, strict=True):
            if exponent:
                block = place.block.of(result[place.parameter])
                block *= place.along(self.group, factors if exponent > 0 else 1 / factors)
        return result

    def balance(self, state: Mapping[str, Tensor]) -> Tensor:
        """The factors that make the sum of all squares smallest: sqrt(|out_i| / |in_i|); 1 where either is zero."""
        ins, outs = (
            sum(
                (p.summed(self.group, p.block.of(state[p.parameter].contiguous()).square()) for p, e in self._signed(sign)),
                start=torch.zeros(self.group.shape, dtype=torch.float64),
            )
            for sign in (1, -1)
        )
        return torch.where((ins > 0) & (outs > 0), (outs / ins).sqrt().sqrt(), 1.0)

    def _signed(self, sign: int) -> list[tuple[Place, int]]:
        return [(p, e) for p, e in zip(self.places, self.exponents, strict=True) if e == sign]


@dataclass(frozen=True, eq=False)
class Balanced:
    """A state with all units in balance, and the factors that brought it there, one tensor for each scaling."""

    state: dict[str, Tensor]
    factors: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Gauge:
    """All scalings and reflections of a network; none by default."""

    scalings: tuple[Scaling, ...] = ()
    reflections: tuple[Scaling, ...] = ()

    @classmethod
    def of(cls, specification: Specification, ends: Iterable[Mapping[str, Tensor]] = ()) -> "Gauge":
        """Read them off the network: what the null space offers, or small subsets of places, and stands the test.

        Args:
            ends: states at which outputs must stay too: a fresh network under statistics of a trained one may be dead
                throughout, and then anything keeps its outputs.
        """
        states = [*(generic_state(specification.network, seed) for seed in range(STATES)), *ends]
        weighed = _weighed_gradients(specification, states[0])
        outer = {group.within for group in specification.groups.values()}
        scalings, reflections = [], []
        for group in specification.groups.values():
            if group.name not in outer:
                places = _places(specification, group)
                offered = (Scaling(group, places, exponents) for exponents in _exponents(group, places, weighed))
                scalings += [s for s in offered if _keeps(specification, states, s, reflect=False)]
                if group.within is None:
                    tried = (Scaling(group, places, chosen) for chosen in _subsets(len(places)))
                    reflections += [s for s in tried if _keeps(specification, states, s, reflect=True)][:1]
        return cls(tuple(scalings), tuple(reflections))

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of all groups whose units may be scaled or reflected."""
        return tuple(dict.fromkeys(scaling.group.name for scaling in (*self.scalings, *self.reflections)))

    @property
    def reflected(self) -> tuple[str, ...]:
        """Names of the groups whose units may be reflected."""
        return tuple(reflection.group.name for reflection in self.reflections)

    def reflects(self, parameter: str, block: Block, dim: int) -> bool:
        """Whether this axis of a block changes sign with its unit."""
        place = Place(parameter, block, dim)
        return any(exponent and place == p for r in self.reflections for p, exponent in zip(r.places, r.exponents, strict=True))

    def balanced(self, state: Mapping[str, Tensor]) -> Balanced:
        """Every unit in balance with its neighbours, reached in rounds."""
        state = dict(state)
        totals = [torch.ones(scaling.group.shape, dtype=torch.float64) for scaling in self.scalings]
        for _ in range(ROUNDS):
            worst = 0.0
            for number, scaling in enumerate(self.scalings):
                factors = scaling.balance(state)
                state, totals[number] = scaling.scaled(state, factors), totals[number] * factors
                worst = max(worst, (factors - 1).abs().max().item())
            if worst < SETTLED:
                break
        return Balanced(state, tuple(totals))

    def taken_over(self, state: Mapping[str, Tensor], signs: Mapping[str, Tensor], other: Balanced) -> dict[str, Tensor]:
        """A balanced, reordered state with its units reflected, and brought to the imbalance that the other had."""
        state = dict(state)
        for reflection in self.reflections:
            state = reflection.scaled(state, signs[reflection.group.name])
        for scaling, factors in zip(self.scalings, other.factors, strict=True):
            state = scaling.scaled(state, 1 / factors)
        return state


def _places(specification: Specification, group: Group) -> tuple[Place, ...]:
    return tuple(
        Place(name, block, dim)
        for name in specification.space.names
        for block in specification.blocks[name]
        for dim, axis in enumerate(block.axes)
        if axis == group.name
    )


def _weighed_gradients(specification: Specification, state: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Gradient times parameter for random weights of the outputs, one for each probe."""
    names = specification.space.names
    leaves = {name: state[name].clone().requires_grad_() for name in names}
    outputs = specification.network.outputs({**state, **leaves}, gradients=True)
    outputs = [output for output in outputs if output.requires_grad]
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(PROBES if outputs else 0):
        weights = [torch.randn(output.shape, generator=generator, dtype=output.dtype) for output in outputs]
        gradients = torch.autograd.grad(
            outputs, list(leaves.values()), weights, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        found.append({name: gradient * state[name] for name, gradient in zip(names, gradients, strict=True)})
    return found


def _exponents(group: Group, places: Sequence[Place], weighed: Sequence[Mapping[str, Tensor]]) -> list[tuple[int, ...]]:
    """Vectors of -1, 0 and 1, one entry a place, in the null space of the changes that scaling a unit makes."""
    if not weighed or not places:
        return []
    columns = [torch.cat([p.summed(group, p.block.of(w[p.parameter])).flatten() for w in weighed]) for p in places]
    matrix = torch.stack(columns, 1)
    sizes = matrix.norm(dim=0)
    # Where the output does not depend on a place at all, such as the bias of keys, rounding is all that is there.
    used = [k for k, size in enumerate(sizes.tolist()) if size > VANISHING * sizes.max()]
    if len(used) < 2:
        return []
    _, values, vectors = torch.linalg.svd(matrix[:, used] / sizes[used], full_matrices=False)
    null = vectors[values < VANISHING * values[0]] / sizes[used]
    found = []
    for row in _reduced(null):
        whole = row.round()
        if (row - whole).abs().max() < 1e-6 and set(whole.tolist()) >= {1.0, -1.0} and whole.abs().max() == 1:
            exponents = dict(zip(used, whole.int().tolist(), strict=True))
            found.append(tuple(exponents.get(k, 0) for k in range(len(places))))
    return found


def _reduced(rows: Tensor) -> Tensor:
    """The reduced row echelon form of independent rows: each has a one where all others have zeros."""
    rows = rows.clone()
    for number in range(len(rows)):
        pivot = int((rows[number].abs() > 1e-6 * rows[number].abs().max()).nonzero()[0])
        rows[number] /= rows[number, pivot].clone()
        others = [k for k in range(len(rows)) if k != number]
        rows[others] -= rows[others][:, [pivot]] * rows[number]
    return rows


def _subsets(count: int) -> list[tuple[int, ...]]:
    """Which of so many places change sign: all subsets of a few, smallest first; of many, all places alone."""
    sizes = range(1, count + 1) if count <= MOST_PLACES else [count] if count else []
    return [tuple(int(k in chosen) for k in range(count)) for size in sizes for chosen in combinations(range(count), size)]


def _keeps(specification: Specification, states: Sequence[Mapping[str, Tensor]], scaling: Scaling, *, reflect: bool) -> bool:
    """Whether factors between 1/2 and 2, or signs, leave the outputs as they are: all units turned around at first, for
    some may be dead, then some alone, for only all together may be free to."""
    for seed, state in enumerate(states):
        draws = torch.rand(scaling.group.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        signs = torch.where((draws < 0.5) | (seed == 0), -1.0, 1.0).double()
        factors = signs if reflect else torch.exp2(2 * draws - 1)
        before, after = (specification.network.outputs(s) for s in (state, scaling.scaled(state, factors)))
        if difference(before, after) > TOLERANCE:
            return False
    return True
