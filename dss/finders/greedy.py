"""Greedy dynamic string sampling (Freeman & Bruna 2017, section 3.1, algorithm 1)."""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.base.limits import Limits, Status
from dss.base.path import Path
from dss.base.renamed import renamed
from dss.certificates.sampling import after_insertion, sample_segments
from dss.finders.descent import Descended, Descent, descend
from dss.finders.finder import Finder, Step
from dss.finders.target import Target
from dss.problem import Problem


@renamed(points="grid")
@dataclass(frozen=True)
class GreedyString(Finder):
    """Insert a bead into every segment whose loss exceeds the threshold, train it below a target, and repeat.

    The paper's recursion is a worklist here: its pseudocode returns after the first failing half and never visits
    the other.

    Attributes:
        insertion: a new bead starts at the segment's interior maximum (algorithm 1, line 4), or at its midpoint.
        alpha, margin: a bead's target, see `dss.finders.target`; by default 5 % of the threshold's size below it.
        schedule: "breadth" trains all beads of a round as one batch; "depth" one after the other, the paper's order.
        grid: intervals of the grid on which a segment is tested.
        descent: how beads are trained.
        limits: what ends the search.
    """

    name: ClassVar[str] = "greedy"
    insertion: Literal["argmax", "midpoint"] = "argmax"
    alpha: float | None = None
    margin: float | None = None
    schedule: Literal["breadth", "depth"] = "breadth"
    grid: int = 20
    descent: Descent = field(default_factory=Descent)
    limits: Limits = Limits()

    def __post_init__(self):
        if self.insertion not in ("midpoint", "argmax") or self.schedule not in ("breadth", "depth"):
            raise InputError(
                "insertion is 'midpoint' or 'argmax' and schedule 'breadth' or 'depth', "
                f"got {self.insertion!r} and {self.schedule!r}"
            )
        _ = self.target

    @property
    def target(self) -> Target:
        """To which loss beads are trained."""
        return Target(self.alpha, self.margin)

    def advance(self, problem: Problem, step: Step) -> Step:
        """Test the segments not judged yet, then train one bead in each that failed (in the first, for "depth")."""
        maxima, places = self._judged(problem, step)
        failed = torch.nonzero(maxima > problem.threshold)[:, 0]
        if not len(failed):
            return replace(step, maxima=maxima, status=Status.FOUND)
        chosen = failed if self.schedule == "breadth" else failed[:1]
        chosen = chosen[: self.limits.room(step.path.intermediate_beads)]
        path, reached, gradient_steps = self._grown(problem, step, chosen, places[chosen])
        status = Status.SEARCHING if reached else Status.STALLED
        gradient_steps += step.gradient_steps
        return replace(step, path=path, maxima=after_insertion(maxima, chosen), status=status, gradient_steps=gradient_steps)

    def _grown(self, problem: Problem, step: Step, chosen: Tensor, places: Tensor) -> tuple[Path, bool, int]:
        """The path with a trained bead in each of the segments `chosen`, whether all of these reached the target, gradient steps."""
        trained = self._trained(problem, step.round, step.path.points(chosen, places))
        return step.path.insert(chosen, trained.points), bool(trained.reached.all()), trained.gradient_steps

    def _trained(self, problem: Problem, round: int, points: Tensor) -> Descended:
        """The beads `points` `(k, p)` of a round, trained where they lie."""
        return descend(
            problem.objective,
            problem.judge,
            points,
            self.target.below(problem.threshold),
            options=self.descent,
            generator=problem.generator("greedy", round),
            adopt=True,
        )

    def _judged(self, problem: Problem, step: Step) -> tuple[Tensor, Tensor]:
        """Every segment's largest loss, and the place of its next bead."""
        maxima, places = step.maxima.clone(), torch.full_like(step.maxima, 0.5)
        # What failed earlier waits for its bead (schedule "depth"); its argmax is found again, it was not kept.
        pending = maxima.isnan() | ((maxima > problem.threshold) if self.insertion == "argmax" else False)
        if self.insertion == "midpoint":
            # A midpoint above the threshold settles the question with one evaluation.
            self._judge(problem, step.path, pending, maxima, places, grid=2)
            pending &= maxima <= problem.threshold
        self._judge(problem, step.path, pending, maxima, places, grid=self.grid)
        return maxima, places if self.insertion == "argmax" else torch.full_like(places, 0.5)

    def _judge(self, problem: Problem, path: Path, mask: Tensor, maxima: Tensor, places: Tensor, *, grid: int) -> None:
        """Write the peaks of the segments in `mask` into `maxima` and `places`."""
        segments = torch.nonzero(mask)[:, 0]
        if len(segments):
            maxima[segments], places[segments] = self._peaks(problem, path, segments, grid)

    def _peaks(self, problem: Problem, path: Path, segments: Tensor, grid: int) -> tuple[Tensor, Tensor]:
        """The largest losses seen inside segments `(m,)`, and where."""
        peaks = sample_segments(problem.judge, path, segments, grid=grid, threshold=problem.threshold, refine=grid > 2)
        return peaks.losses, peaks.t
