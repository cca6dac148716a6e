"""The loop that made the figures of Freeman & Bruna 2017, as their published scripts have it.

It is kept apart from `dss.GreedyString` because some of it is not what the paper's text says: a midpoint bead is
inserted before anything is tested, a segment passes below `multiplier` times the threshold, and the grid of a segment
has its first bead but not its last. `multiplier=1` makes it strict.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from dss import Descent, Finder, InputError, Limits, Path, Problem, Status, Step, descend

POINT_BYTES = 64 * 2**20  # interpolated points held at once


@dataclass(frozen=True)
class PaperString(Finder):
    """The paper's protocol as a finder.

    Attributes:
        alpha: a bead trains to alpha times the threshold.
        multiplier: a segment passes while its sampled maximum is at most multiplier times the threshold.
        points: a segment is sampled at t = 0, 1/points, ..., (points - 1)/points.
        insertion: a new bead starts at the segment's midpoint, or at its sampled maximum strictly inside.
        descent: how beads train.
        limits: the scripts stop after 10 rounds of insertion; the first bead is not counted.
    """

    alpha: float = 0.95
    multiplier: float = 1.1
    points: int = 100
    insertion: Literal["midpoint", "argmax"] = "midpoint"
    descent: Descent = field(default_factory=Descent)
    limits: Limits = Limits(rounds=11, beads=None)

    def __post_init__(self):
        if not 0 < self.alpha <= 1 or self.multiplier < 1 or self.points < 2 or self.insertion not in ("midpoint", "argmax"):
            raise InputError(
                "alpha in (0, 1], multiplier >= 1, points >= 2 and insertion 'midpoint' or 'argmax' are needed, got "
                f"{self.alpha}, {self.multiplier}, {self.points}, {self.insertion!r}"
            )

    def advance(self, problem: Problem, step: Step) -> Step:
        """Train a bead in each segment that failed (in the straight line, unasked), then test the new segments."""
        return self.advance_together([problem], [step])[0]

    def advance_together(self, problems: Sequence[Problem], steps: Sequence[Step]) -> list[Step]:
        """One round of several searches whose problems share objective, judge and threshold; their beads train as one batch."""
        shared, level = problems[0], problems[0].threshold
        chosen = [self._failed(step, level) for step in steps]
        starts = [step.path.points(which, _places(step)[which]) for step, which in zip(steps, chosen, strict=True)]
        trained = descend(
            shared.objective, shared.judge, torch.cat(starts), self.alpha * level,
            options=self.descent, generator=shared.generator("paper", steps[0].round),
        )  # fmt: skip
        counts = [len(which) for which in chosen]
        parts = zip(steps, chosen, trained.points.split(counts), trained.reached.split(counts), strict=True)
        grown = [_grown(step, which, beads, reached) for step, which, beads, reached in parts]
        share = trained.gradient_steps // max(1, len(problems))
        return [replace(step, gradient_steps=step.gradient_steps + share) for step in self._tested(shared, grown)]

    def search_together(self, problems: Sequence[Problem]) -> list[Step]:
        """The last steps of several searches, run side by side; the same strings as one after the other."""
        steps = [self.begin(problem) for problem in problems]
        while open_ := [i for i, step in enumerate(steps) if step.status is Status.SEARCHING]:
            limit = self.limits.rounds
            if limit is not None and steps[open_[0]].round >= limit:
                return [replace(s, status=Status.ROUNDS) if s.status is Status.SEARCHING else s for s in steps]
            advanced = self.advance_together([problems[i] for i in open_], [steps[i] for i in open_])
            for i, step in zip(open_, advanced, strict=True):
                steps[i] = replace(step, round=step.round + 1)
        return steps

    def _failed(self, step: Step, level: float) -> Tensor:
        if len(step.path) == 2:
            return torch.zeros(1, dtype=torch.long)
        return torch.nonzero(step.maxima > self.multiplier * level)[:, 0]

    def _tested(self, shared: Problem, steps: list[Step]) -> list[Step]:
        """Judge the segments that are not judged yet."""
        t = torch.arange(self.points, dtype=torch.float64) / self.points
        tested = []
        for step in steps:
            segments, maxima = torch.nonzero(step.maxima.isnan())[:, 0], step.maxima.clone()
            values = _sampled(shared, step.path, segments, t)
            maxima[segments] = values.max(1).values
            memory = {"places": self._next_places(step, segments, values, t)}
            passed = not (maxima > self.multiplier * shared.threshold).any()
            status = step.status if step.status is not Status.SEARCHING or not passed else Status.FOUND
            tested.append(replace(step, maxima=maxima, memory=memory, status=status))
        return tested

    def _next_places(self, step: Step, segments: Tensor, values: Tensor, t: Tensor) -> list[float]:
        """Where the next bead of every segment goes; a maximum at t = 0 would repeat a bead and is left out."""
        places = torch.full((len(step.path) - 1,), 0.5, dtype=torch.float64)
        if self.insertion == "argmax":
            places[segments] = t[1:][values[:, 1:].argmax(1)]
        return places.tolist()


def _places(step: Step) -> Tensor:
    return torch.tensor(step.memory.get("places", [0.5]), dtype=torch.float64)


def _grown(step: Step, chosen: Tensor, beads: Tensor, reached: Tensor) -> Step:
    """The string with its new beads; both halves of a split segment are not judged yet."""
    counts = torch.ones_like(step.maxima, dtype=torch.long).index_fill(0, chosen, 2)
    maxima = step.maxima.index_fill(0, chosen, torch.nan).repeat_interleave(counts)
    status = step.status if reached.all() else Status.STALLED
    return replace(step, path=step.path.insert(chosen, beads), maxima=maxima, status=status)


def _sampled(shared: Problem, path: Path, segments: Tensor, t: Tensor) -> Tensor:
    """Judged losses `(m, k)` at places t `(k,)` of segments `(m,)`."""
    rows = max(1, POINT_BYTES // path.beads[0].nbytes)
    parts = zip(segments.repeat_interleave(len(t)).split(rows), t.repeat(len(segments)).split(rows), strict=True)
    with torch.no_grad():
        return torch.cat([shared.judge(path.points(*part)).double().cpu() for part in parts]).view(-1, len(t))


def paper_beads(path: Path) -> int:
    """Beads as the paper's figures count them: both ends included."""
    return len(path)
