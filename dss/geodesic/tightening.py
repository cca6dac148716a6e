"""A string on its way to being tight: shortened, judged, and held wherever it failed, round by round.

"Stay below the level at every point" is a constraint for each of infinitely many points: a semi-infinite program. This is
an exchange method for it (Hettich & Kortanek 1993, section 7.1): solve with finitely many constraint points, look where
the solution violates the others, add the worst of these, and solve again.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dss.base.path import Path
from dss.certificates.sampling import Peaks, after_insertion, sample_segments
from dss.geodesic.constraint_points import ConstraintPoints
from dss.geodesic.sqp import SequentialQP, minimise
from dss.problem import Problem


@dataclass(frozen=True, eq=False)
class TightString:
    """A string between two exchange steps.

    Attributes:
        path, held: the string, and the points at which it is held.
        maxima: `(n - 1,)` float64, each segment's largest judged loss; NaN before the first round and where a bead
            was inserted since.
        stationarity: at the end of the last solve; None where the data are subsampled.
        round: rounds so far.
        gradient_steps: of all beads together so far.
    """

    path: Path
    held: ConstraintPoints
    maxima: Tensor
    stationarity: float | None = None
    round: int = 0
    gradient_steps: int = 0

    @classmethod
    def of(cls, path: Path, constraint_points: int) -> "TightString":
        """A string of three beads or more before its first round, held at so many points per segment."""
        unknown = torch.full((len(path) - 1,), torch.nan, dtype=torch.float64)
        return cls(path, ConstraintPoints.spread(len(path) - 1, constraint_points), unknown)

    def insert(self, segments: Tensor, t: Tensor, constraint_points: int) -> "TightString":
        """The same curve with beads inserted at `t` of `segments`, `(m,)` both."""
        path = self.path.insert(segments, self.path.points(segments, t))
        held = ConstraintPoints.spread(len(path) - 1, constraint_points)
        return replace(self, path=path, held=held, maxima=after_insertion(self.maxima, segments))


def exchange_step(
    problem: Problem,
    string: TightString,
    *,
    solver: SequentialQP,
    constraint_points: int,
    grid: int,
    insert: bool,
    key: tuple,
) -> TightString:
    """Shorten once, judge every segment, and hold the string where it failed.

    A segment that fails is held at its peak; if it is held at two such points already, or has failed beside one in the
    third round, it gets a bead instead (`insert`). A step after which the worst segment is worse is undone, and every
    segment that had failed gets a bead.

    Args:
        problem: objective, judge and threshold.
        string: the string so far.
        solver: of the quadratic programs.
        constraint_points: per segment of a new string.
        grid: intervals of the grid on which a segment is judged.
        insert: whether beads may be inserted.
        key: of the random subsamples.
    """
    solved = minimise(problem, string.path, string.held, solver=solver, key=(*key, string.round))
    gradient_steps = string.gradient_steps + solved.gradients * string.path.intermediate_beads
    peaks = _peaks(problem, solved.path, grid)
    if insert and peaks.losses.max() > string.maxima.max() > problem.threshold:
        # Held harder and yet worse: it slipped over a ridge between its constraint points. More beads follow the pass.
        beaded = _beaded(problem, string, grid, constraint_points)
        return replace(beaded, round=string.round + 1, gradient_steps=gradient_steps)
    tight = TightString(solved.path, string.held, peaks.losses, solved.stationarity, string.round + 1, gradient_steps)
    every = torch.arange(len(tight.path) - 1)
    failed, near = peaks.losses > problem.threshold, tight.held.near(peaks.t)
    stuck = failed & ((tight.held.count(len(every)) >= constraint_points + 2) | (near & (string.round >= 2)))
    if insert and stuck.any():
        return tight.insert(every[stuck], peaks.t[stuck], constraint_points)
    new = failed & ~near
    return replace(tight, held=tight.held.add(every[new], peaks.t[new]))


def _beaded(problem: Problem, string: TightString, grid: int, constraint_points: int) -> TightString:
    """The string with a bead at the peak of every segment that failed."""
    failed = torch.nonzero(string.maxima > problem.threshold)[:, 0]
    peaks = sample_segments(problem.judge, string.path, failed, grid=grid, refine=False)
    return string.insert(failed, peaks.t, constraint_points)


def _peaks(problem: Problem, path: Path, grid: int) -> Peaks:
    """Every segment's peak: a few evaluations settle that a segment fails, only one that seems to pass gets them all."""
    peaks = sample_segments(problem.judge, path, grid=4, threshold=problem.threshold, refine=False)
    rest = torch.nonzero(peaks.losses <= problem.threshold)[:, 0]
    if len(rest):
        fine = sample_segments(problem.judge, path, rest, grid=grid, threshold=problem.threshold)
        peaks.losses[rest], peaks.t[rest] = fine.losses, fine.t
    return peaks
