"""Greedy search on several ranks: a round's segments are judged, and its beads trained, by the ranks to which they are dealt."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace

import torch
import torch.distributed as dist
from torch import Tensor

from dss.base.chunks import all_finite
from dss.base.errors import NotFinite
from dss.base.limits import Budget, Spent, Status
from dss.base.path import Path
from dss.finders import GreedyString
from dss.finders.finder import Finder, Step
from dss.objectives.wrappers import Tally
from dss.problem import Problem
from dss.ranks.group import added, from_first
from dss.ranks.rows import alone
from dss.ranks.string import absent, blocks, dealt, exchanged, grown, spread
from dss.runs.history import Snapshot


class SpreadGreedy(GreedyString):
    """`GreedyString` on every rank of a group: the same rounds, the same beads, of which each rank holds its share.

    A rank judges its share of the segments that are not judged yet and trains its share of the beads that are inserted; it
    fetches the beads of a segment that it does not hold. What all ranks must know are maxima and places of segments, digests and counts.
    """

    def begin(self, problem: Problem) -> Step:
        return Step.unjudged(spread(problem.straight))

    def advance(self, problem: Problem, step: Step) -> Step:
        with _counted_together(problem) as own:
            return super().advance(own, step)

    def _peaks(self, problem: Problem, path: Path, segments: Tensor, grid: int) -> tuple[Tensor, Tensor]:
        numbers, pairs = dealt(path, segments, problem.start)
        found = torch.zeros(2, len(segments), dtype=torch.float64)
        if pairs is not None:
            found[:, numbers] = torch.stack(super()._peaks(problem, pairs, 2 * torch.arange(len(numbers)), grid))
        dist.all_reduce(found)  # sums with zeros are exact
        return found[0], found[1]

    def _grown(self, problem: Problem, step: Step, chosen: Tensor, places: Tensor) -> tuple[Path, bool, int]:
        numbers, pairs = dealt(step.path, chosen, problem.start)
        beads, missed, lost, steps = {}, 0, 0, 0
        if pairs is not None:
            points = pairs.points(2 * torch.arange(len(numbers)), places[numbers])
            del pairs
            trained = self._trained(problem, step.round, points)
            beads = dict(zip(chosen[numbers].tolist(), trained.points, strict=True))
            missed, steps = int((~trained.reached).sum()), trained.gradient_steps
            lost = sum(not all_finite(bead) for bead in trained.points)
        missed, lost, steps = added(missed, lost, steps)
        if lost:
            raise NotFinite("a path needs finite beads, got NaN or infinity")
        return grown(step.path, chosen.tolist(), beads, problem.start), not missed, steps


@contextmanager
def _counted_together(problem: Problem) -> Iterator[Problem]:
    """The question as a rank alone asks it; in the end, the work of all ranks is counted, and held against the limits.

    A rank that stopped in the middle of a round would leave the others waiting, so what is left is looked at when all are done:
    the round is dropped, as it is where one process stops within it.
    """
    before, budget = replace(problem.tally), Budget()
    yield alone(problem, budget)
    work = added(
        problem.tally.loss_evaluations - before.loss_evaluations,
        problem.tally.gradient_evaluations - before.gradient_evaluations,
        budget.spent,
    )
    problem.tally.restore(before + Tally(*work[:2]))
    if work[2] > problem.budget.evaluations:
        raise Spent(Status.EVALUATIONS)


def spread_out(finder: Finder) -> Finder:
    """The finder as several ranks run it: greedy search spread over them, any other as it is."""
    if not dist.is_initialized() or type(finder) is not GreedyString:
        return finder
    return SpreadGreedy(**{field.name: getattr(finder, field.name) for field in fields(finder)})


def dealt_out(finder: Finder, last: Snapshot | None) -> Snapshot | None:
    """The step from which a search goes on, as the first rank read it, on every rank; of a string that is spread, its share."""
    if not dist.is_initialized() or not isinstance(finder, SpreadGreedy):
        return from_first(last)
    path = None if last is None else last.path
    told = from_first(None if last is None or path is None else _without_beads(last))
    return None if told is None else replace(told, step=replace(told.step, path=_handed_out(told.path, path)))


def _without_beads(last: Snapshot) -> Snapshot:
    path = Path.partial([absent(row) for row in last.path.rows], last.path.digests)
    return replace(last, step=replace(last.step, path=path))


def _handed_out(named: Path, whole: Path | None) -> Path:
    """This rank's share of a path that the first rank holds whole."""
    rows = named.rows if whole is None else whole.rows
    like = torch.empty_like(rows[0], device="cpu")
    own = blocks(len(rows))
    here = exchanged(dict(enumerate(rows)), {i: [0] for i in range(len(rows))}, own, like)
    return Path.partial([here.get(i, absent(like)) for i in range(len(rows))], named.digests)
