"""A proof is checked against the network itself before its verdict is given: the wire cannot be switched off.

A bound is only as true as the code that computed it, and as what it assumes of a `forward`. So the network's own
computation (`Objective.plain`: its dtype, its data, one piece, no enclosure) is asked at places where the bound is known,
and every loss that the proof computed on its way is compared with the bound of its cell. A loss above a bound is an error
of this program and ends the run: no verdict may rest on it.

A computed loss is not the real one that the bound is for. What rounding may take is measured: a unit of rounding in every
coordinate of the point changes the loss as much as one rounding in every product of a layer does, and sums of many terms, and
many layers, add to it, for which `ROOM` stands.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dss.base.digest import digest
from dss.base.errors import SoundnessError
from dss.objectives.objective import Objective

CELLS = 4
"""Random cells in which the network is asked at a random place; the worst cell is asked at both ends besides."""

CANDIDATES = 8
"""Random samples of which the worst is bounded on its own: in a mean over the data its error would be lost."""

ROOM = 64
"""Times the change of a loss by one unit of rounding per coordinate. Sequential sums of 4,096 terms lose as much."""

TRIALS = 8
"""Random roundings of the point of which the largest change counts."""

Losses = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Evaluated:
    """Computed losses at places of a path: `segment`, `t`, `loss`, `bound`, all `(m,)` float64."""

    segment: Tensor
    t: Tensor
    loss: Tensor
    bound: Tensor


def check_bounds(objective: Objective, beads: Tensor, bounds: Tensor, evaluations: list[tuple[int, float, float]]) -> None:
    """Compare a finished proof with computed losses.

    Args:
        objective: whose bounds they are.
        beads: `(n, p)`.
        bounds: `(c, 4)` float64: segment, lower t, upper t, bound of the cells that cover the path.
        evaluations: segment, t and loss of what the proof computed.

    Raises:
        SoundnessError: a loss lies above the bound of its cell by more than rounding.
    """
    known = bounds[bounds[:, 3].isfinite()]
    if not len(known):
        return
    places = _bounded(torch.tensor(evaluations, dtype=torch.float64), bounds)
    if not places.loss.isfinite().all():  # beyond the range of floats, of which the bound says nothing: that refutes
        return
    _check(objective, beads, places)
    generator = torch.Generator().manual_seed(int(digest(beads)[:15], 16))
    if objective.samples <= objective.samples_at_once:
        _check_places(objective, beads, _chosen(known, generator))
    else:
        _check_samples(objective, beads, known, generator, _random(objective.samples, objective.samples_at_once, generator))
    if objective.samples > 1:
        candidates = _random(objective.samples, CANDIDATES, generator)
        worst = _worst_sample(objective, beads, known, candidates)
        if worst is not None:
            _check_samples(objective, beads, known, generator, worst)


def _bounded(places: Tensor, bounds: Tensor) -> Evaluated:
    """Every place with the least bound of the cells that it lies in."""
    segment, t, loss = places.T
    inside = (segment[:, None] == bounds[:, 0]) & (t[:, None] >= bounds[:, 1]) & (t[:, None] <= bounds[:, 2])
    return Evaluated(segment, t, loss, torch.where(inside, bounds[:, 3], torch.inf).amin(1))


def _chosen(cells: Tensor, generator: torch.Generator) -> Tensor:
    """Places `(m, 3)`: segment, t and bound, in random cells, and at both ends of the worst."""
    some = cells[_random(len(cells), CELLS, generator)]
    t = torch.lerp(some[:, 1], some[:, 2], torch.rand(len(some), generator=generator, dtype=torch.float64))
    worst = cells[cells[:, 3].argmax()].expand(2, 4)
    return torch.cat([torch.stack([some[:, 0], t, some[:, 3]], 1), torch.stack([worst[:, 0], worst[0, 1:3], worst[:, 3]], 1)])


def _check_places(objective: Objective, beads: Tensor, places: Tensor) -> None:
    """Ask the network at places of which the bounds are known."""
    segment, t, bound = places.T
    _check(objective, beads, Evaluated(segment, t, _losses(objective.plain, _points(beads, segment, t)), bound), plain=True)


def _check_samples(objective: Objective, beads: Tensor, cells: Tensor, generator: torch.Generator, index: Tensor) -> None:
    """Bound the worst cell for some samples alone, and ask the network about them at its ends and inside."""
    part = objective.on_samples(index)
    if part is None:
        return
    segment, lower, upper = cells[cells[:, 3].argmax(), :3].to(beads.device)
    at = int(segment)
    bound = part.enclose(beads[at : at + 1], beads[at + 1 : at + 2], lower[None], upper[None]).amax().cpu()
    if bound.isfinite():
        share = torch.tensor([0.0, 1.0, torch.rand((), generator=generator).item()], dtype=torch.float64)
        t = torch.lerp(lower.cpu(), upper.cpu(), share)
        _check_places(part, beads, torch.stack([torch.full_like(t, at), t, bound.expand(3)], 1))


def _worst_sample(objective: Objective, beads: Tensor, cells: Tensor, candidates: Tensor) -> Tensor | None:
    """The candidate with the largest loss in the middle of the worst cell, `(1,)`."""
    cell = cells[cells[:, 3].argmax()]
    point, best, most = _points(beads, cell[:1], cell[1:3].mean()[None]), None, -torch.inf
    for one in candidates.split(1):
        part = objective.on_samples(one)  # a sample that does not count has no loss
        if part is not None and (loss := _losses(part.plain, point).item()) > most:
            best, most = one, loss
    return best


def _random(count: int, wanted: int, generator: torch.Generator) -> Tensor:
    """`wanted` different numbers below `count`, or all of them."""
    return torch.randperm(count, generator=generator)[:wanted].sort().values


def _points(beads: Tensor, segment: Tensor, t: Tensor) -> Tensor:
    """Points of the path in the dtype of its beads."""
    at = segment.long().to(beads.device)
    return torch.lerp(beads[at], beads[at + 1], t.to(beads.device, beads.dtype)[:, None])


def _losses(function: Losses, points: Tensor) -> Tensor:
    with torch.no_grad():
        return function(points).double().cpu()


def _check(objective: Objective, beads: Tensor, found: Evaluated, *, plain: bool = False) -> None:
    """Refuse losses above their bounds: the three furthest above are looked at."""
    excess = found.loss - found.bound
    excess = torch.where(found.bound.isfinite(), excess.nan_to_num(nan=torch.inf), -torch.inf)
    for i in excess.argsort(descending=True)[:3].tolist():
        if excess[i] > 0:
            point = _points(beads, found.segment[i : i + 1], found.t[i : i + 1])
            room = allowance(objective.plain if plain else objective, point)
            if not excess[i] <= room:
                raise _alarm(found, i, room, objective)


def allowance(losses: Losses, point: Tensor) -> float:
    """How far a computed loss at a point `(1, p)` may lie above the real one by rounding."""
    unit = torch.finfo(point.dtype).eps
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (TRIALS, point.shape[1]), generator=generator).to(point) * 2 - 1
    found = _losses(losses, torch.cat([point, point + unit * point * signs]))
    return ROOM * ((found - found[0]).abs().max() + unit * (1 + found[0].abs())).item()


def _alarm(found: Evaluated, i: int, room: float, objective: Objective) -> SoundnessError:
    return SoundnessError(
        f"a loss of {found.loss[i].item():.9g} was computed where at most {found.bound[i].item():.9g} had been proved "
        f"({objective.description}; segment {int(found.segment[i])}, t = {found.t[i].item():.9g}; rounding explains {room:.3g}). "
        "No verdict is given. Either the network is not a fixed function of its parameters and data, or this is an error of "
        "this program: please report it with the model, the loss and this message"
    )
