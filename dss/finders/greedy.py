"""Greedy dynamic string sampling (Freeman & Bruna 2017, section 3.1, algorithm 1)."""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.base.path import Path
from dss.certificates.sampling import Peaks, after_insertion, sample_segments
from dss.finders.descent import Descent, descend
from dss.finders.finder import Finder, Limits, Status, Step
from dss.problem import Problem


@dataclass(frozen=True)
class GreedyString(Finder):
    """Insert a bead into every segment whose loss exceeds the threshold, train it below a target, and repeat.

    The paper's recursion is a worklist here: its pseudocode returns after the first failing half and never visits
    the other.

    Attributes:
        insertion: a new bead starts at the segment's interior maximum (algorithm 1, line 4), or at its midpoint.
        alpha: a bead's target is alpha times the threshold, for positive thresholds.
        margin: a bead's target is the threshold less this; by default 5 % of the threshold's size. Give at most one
            of alpha and margin.
        schedule: "breadth" trains all beads of a round as one batch; "depth" one after the other, the paper's order.
        points: cells of the grid on which a segment is tested.
        descent: how beads are trained.
        limits: what ends the search.
    """

    insertion: Literal["argmax", "midpoint"] = "argmax"
    alpha: float | None = None
    margin: float | None = None
    schedule: Literal["breadth", "depth"] = "breadth"
    points: int = 20
    descent: Descent = field(default_factory=Descent)
    limits: Limits = Limits()

    def __post_init__(self):
        if self.insertion not in ("midpoint", "argmax") or self.schedule not in ("breadth", "depth"):
            raise InputError(
                "insertion is 'midpoint' or 'argmax' and schedule 'breadth' or 'depth', "
                f"got {self.insertion!r} and {self.schedule!r}"
            )
        if self.alpha is not None and self.margin is not None:
            raise InputError("a target comes from alpha or from a margin, got both; leave one out")
        if (self.alpha is not None and not 0 < self.alpha <= 1) or (self.margin is not None and self.margin < 0):
            raise InputError(f"alpha lies in (0, 1] and a margin is not negative, got {self.alpha} and {self.margin}")

    def target(self, threshold: float) -> float:
        """The judged loss to which a bead is trained.

        Raises:
            InputError: alpha with a threshold that is not positive, or no default margin for a threshold of zero.
        """
        if self.alpha is not None and threshold <= 0:
            raise InputError(f"alpha needs a positive threshold, got {threshold:g}; give a margin instead")
        if self.alpha is not None:
            return self.alpha * threshold
        if self.margin is None and threshold == 0:
            raise InputError("a threshold of 0 has no natural margin; give one")
        return threshold - (0.05 * abs(threshold) if self.margin is None else self.margin)

    def advance(self, problem: Problem, step: Step) -> Step:
        """Test the segments not judged yet, then train one bead in each that failed (in the first, for "depth")."""
        maxima, places = self._judged(problem, step)
        failed = torch.nonzero(maxima > problem.threshold)[:, 0]
        if not len(failed):
            return replace(step, maxima=maxima, status=Status.FOUND)
        chosen = failed if self.schedule == "breadth" else failed[:1]
        chosen = self._within_bead_limit(step, chosen)
        trained = descend(
            problem.objective,
            problem.judge,
            step.path.points(chosen, places[chosen]),
            self.target(problem.threshold),
            options=self.descent,
            generator=problem.generator("greedy", step.round),
        )
        status = Status.SEARCHING if trained.reached.all() else Status.STALLED
        path = step.path.insert(chosen, trained.points)
        return replace(step, path=path, maxima=after_insertion(maxima, chosen), status=status, steps=step.steps + trained.steps)

    def _judged(self, problem: Problem, step: Step) -> tuple[Tensor, Tensor]:
        """Every segment's largest loss, and the place of its next bead."""
        maxima, places = step.maxima.clone(), torch.full_like(step.maxima, 0.5)
        # What failed earlier waits for its bead (schedule "depth"); its argmax is found again, it was not kept.
        pending = maxima.isnan() | ((maxima > problem.threshold) if self.insertion == "argmax" else False)
        if self.insertion == "midpoint":
            # A midpoint above the threshold settles the question with one look.
            self._look(problem, step.path, pending, maxima, places, points=2)
            pending &= maxima <= problem.threshold
        self._look(problem, step.path, pending, maxima, places, points=self.points)
        return maxima, places if self.insertion == "argmax" else torch.full_like(places, 0.5)

    def _look(self, problem: Problem, path: Path, mask: Tensor, maxima: Tensor, places: Tensor, *, points: int) -> None:
        """Write the peaks of the segments in `mask` into `maxima` and `places`."""
        segments = torch.nonzero(mask)[:, 0]
        if len(segments):
            threshold = problem.threshold
            peaks: Peaks = sample_segments(problem.judge, path, segments, points=points, threshold=threshold, refine=points > 2)
            maxima[segments], places[segments] = peaks.losses, peaks.t

    def _within_bead_limit(self, step: Step, chosen: Tensor) -> Tensor:
        """As many as the limit on beads leaves room for."""
        limit = self.limits.beads
        return chosen if limit is None else chosen[: limit - step.path.intermediate_beads]
