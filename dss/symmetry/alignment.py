"""The reordered copy of one network that lies closest to another."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.base.gradients import with_gradients
from dss.base.shown import Shown
from dss.objectives.network import NetworkObjective
from dss.objectives.network.data import Samples
from dss.objectives.objective import End, Objective, as_point
from dss.symmetry.activations import activation_terms
from dss.symmetry.evaluation import difference
from dss.symmetry.layout import Group
from dss.symmetry.matching import Matching
from dss.symmetry.scaling import Gauge
from dss.symmetry.specification import Specification, shared_buffers
from dss.symmetry.terms import Term

METHODS = ("weights", "activations")
# Samples of the run that types are read from, of those whose activations are compared, and of the last check.
FEW, MANY, CHECKED = 16, 512, 256
# Relative change of the outputs above which the aligned copy is another function: reordering only rounds sums anew;
# scaled parameters are rounded themselves, to the dtype of the point.
REORDERED, SCALED = 1e-8, {torch.float64: 1e-8, torch.float32: 1e-3}
# The norm of parameters beside activations, where inner products count its square: they decide between units that are
# dead on the data, or the same on it, and nothing else.
TIE = 1e-4


@dataclass(frozen=True, eq=False, repr=False)
class Alignment(Shown):
    """A reordered copy of a network, and how it came about.

    Attributes:
        point: the copy `(p,)`, in the dtype and on the device of the original: the same function.
        permutations: for each group, unit i of the copy is unit `permutation[i]` of the original; see `Group.shape`.
        groups: what could be reordered, by name.
        pinned: what could not, and why: "layer.weight[0]" to a reason.
        unknown_ops: operations of the network without a rule, which pinned what they touch.
        distance_before, distance_after: Euclidean, to the network that was aligned to.
        rescaled: groups whose units were also scaled or reflected.
        specification: moves other states of the network likewise: `specification.apply(state, permutations)`.
    """

    point: Tensor
    permutations: Mapping[str, Tensor]
    groups: Mapping[str, Group]
    pinned: Mapping[str, str]
    unknown_ops: tuple[str, ...]
    distance_before: float
    distance_after: float
    rescaled: tuple[str, ...]
    specification: Specification

    def __repr__(self) -> str:
        return (
            f"Alignment({self.moved_units} units of {len(self.groups)} groups moved; "
            f"distance {self.distance_before:.6g} before, {self.distance_after:.6g} after; {len(self.pinned)} axes pinned)"
        )

    @property
    def moved_units(self) -> int:
        """How many units of the copy stand elsewhere than in the original."""
        return sum(int((p != torch.arange(p.shape[-1])).sum()) for p in self.permutations.values())


@with_gradients()
def align(
    objective: Objective,
    a: End,
    b: End,
    *,
    by: Literal["weights", "activations"] = "weights",
    rescale: bool = False,
    seed: int = 0,
    restarts: int = 1,
) -> Alignment:
    """The copy of `b` with its units in the order that brings it closest to `a`; the function is the same.

    Which units may be reordered is read off the network; what is not understood stays as it is, and is named.

    Args:
        objective: a network's loss; only its model, data and treatment of running statistics are used.
        a, b: points `(p,)` or state dicts.
        by: "weights" maximises the inner product of the parameters (Ainsworth et al. 2023, alg. 1); "activations" the
            correlations of what enters each contraction, over the objective's data.
        rescale: also scale units that allow it, such as ReLU's, to the balance between what comes in and what goes out
            that they have in `a`, and reflect those behind odd activations.
        seed: of the order in which groups take turns.
        restarts: how many starts; the best result counts.

    Raises:
        InputError: the objective is no network, the points do not fit it, an option is unknown, or the aligned copy's
            outputs differ from those of `b`.
    """
    if by not in METHODS or restarts < 1:
        raise InputError(f"by must be one of {', '.join(METHODS)} and restarts at least 1, got {by!r} and {restarts}")
    network = _network(objective)
    a, b = as_point(network, a, "a"), as_point(network, b, "b")
    specification = specification_of(network)
    gauge = Gauge.of(specification, _states(network, FEW, a, b)) if rescale else Gauge()
    near, far = (gauge.balanced(network.space.unflatten(point.detach().cpu().double())) for point in (a, b))
    terms = _parameter_terms(specification, near.state, far.state, gauge)
    if by == "activations":
        terms = _activation_terms(network, specification, a, b, gauge) + [term.scaled(TIE) for term in terms]
    order = Matching(specification.groups, terms, gauge.reflected).run(torch.Generator().manual_seed(seed), restarts)
    point = specification.apply(b, order.permutations)
    if rescale:
        moved = specification.apply(far.state, order.permutations)
        point = network.space.flatten(gauge.taken_over(moved, order.signs, near)).to(b)
    _check_unchanged(network, specification, b, point, rescaled=rescale)
    return Alignment(
        point,
        order.permutations,
        specification.groups,
        specification.pinned,
        specification.unknown_ops,
        _distance(a, b),
        _distance(a, point),
        gauge.groups,
        specification,
    )


def specification_of(network: NetworkObjective) -> Specification:
    """Of an objective's network, run on some of its data; what its two ends share stays as it is.

    Raises:
        InputError: the network cannot be run in float64.
    """
    model = network.model
    held = [name for name, _ in model.named_parameters() if name not in network.space.names]
    shared = shared_buffers(model, network.recalibrated_norms)
    return Specification.of(model, _inputs(_some(network, FEW)), fixed=[*held, *shared], space=network.space)


def _network(objective: Objective) -> NetworkObjective:
    network = objective.unwrapped
    if not isinstance(network, NetworkObjective):
        raise InputError(f"only networks have units to align: a NetworkObjective is needed, got {type(network).__name__}")
    return network


def _some(network: NetworkObjective, count: int) -> Samples:
    """Samples at equal distances in the data."""
    return network.data.take(torch.arange(min(count, network.samples)) * network.samples // min(count, network.samples))


def _distance(a: Tensor, b: Tensor) -> float:
    return (a.cpu().double() - b.cpu().double()).norm().item()


def _inputs(samples: Samples) -> tuple[Tensor, ...]:
    """The inputs in float64."""
    return samples.cast(torch.float64, torch.device("cpu")).inputs


def _states(network: NetworkObjective, count: int, *points: Tensor) -> Iterator[dict[str, Tensor]]:
    """Parameters and buffers of points, in float64; running statistics are those of some samples alone."""
    some = _some(network, count)
    return (network.state(point.detach().cpu().double(), calibration=some) for point in points)


def _parameter_terms(specification: Specification, a: Mapping[str, Tensor], b: Mapping[str, Tensor], gauge: Gauge) -> list[Term]:
    """The blocks of the parameters in which units lie."""
    terms = []
    for name in specification.space.names:
        for block in specification.blocks[name]:
            if any(axis in specification.groups for axis in block.axes):
                odd = [gauge.reflects(name, block, dim) for dim in range(len(block.axes))]
                terms.append(Term.of(block.axes, block.of(a[name].contiguous()), block.of(b[name].contiguous()), odd))
    return terms


def _activation_terms(network: NetworkObjective, specification: Specification, a: Tensor, b: Tensor, gauge: Gauge) -> list[Term]:
    """Activations over batches as large as the one that types were read from."""
    size = min(FEW, network.samples)
    inputs = [x.split(size) for x in _inputs(_some(network, MANY))]
    batches = [specification.network.on(batch) for batch in zip(*inputs, strict=True) if len(batch[0]) == size]
    first, second = _states(network, MANY, a, b)
    return activation_terms(specification, batches, first, second, gauge.reflected)


def _check_unchanged(
    network: NetworkObjective, specification: Specification, before: Tensor, after: Tensor, *, rescaled: bool
) -> None:
    """The last word: both points have the same outputs on the data, each with the statistics it is judged with."""
    run = specification.network.on(_inputs(_some(network, CHECKED)))
    old, new = (run.outputs(state) for state in _states(network, CHECKED, before, after))
    change, allowed = difference(old, new), SCALED.get(before.dtype, 1e-2) if rescaled else REORDERED
    if not change <= allowed:
        raise InputError(
            f"the aligned copy is another function: its outputs differ by {change:.2g} of their size, where {allowed:.0e} is "
            "rounding; the network depends on the order of its units in a way that a run of it does not show"
        )
