"""A string on its way to being tight: pulled, judged, and held wherever it failed, round by round."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dss.base.path import Path
from dss.certificates.sampling import Peaks, after_insertion, sample_segments
from dss.geodesic.constraint_points import Places
from dss.geodesic.sqp import Solver, pull
from dss.problem import Problem


@dataclass(frozen=True, eq=False)
class Taut:
    """A string between two rounds of `tighten`.

    Attributes:
        path, places: the string and where it is held.
        maxima: `(n - 1,)` float64, each segment's largest judged loss; NaN before the first round and where a bead
            was inserted since.
        stationarity: of the last pull; None where the data are subsampled.
        round: rounds so far.
        steps: gradient steps of all beads together so far.
    """

    path: Path
    places: Places
    maxima: Tensor
    stationarity: float | None = None
    round: int = 0
    steps: int = 0

    @classmethod
    def of(cls, path: Path, *, cells: int) -> "Taut":
        """A string of three beads or more before its first round."""
        unknown = torch.full((len(path) - 1,), torch.nan, dtype=torch.float64)
        return cls(path, Places.grid(len(path) - 1, cells), unknown)

    def insert(self, segments: Tensor, t: Tensor, cells: int) -> "Taut":
        """The same curve with beads inserted at places `t` of `segments`, `(m,)` both."""
        path = self.path.insert(segments, self.path.points(segments, t))
        places = Places.grid(len(path) - 1, cells)
        return replace(self, path=path, places=places, maxima=after_insertion(self.maxima, segments))


def tighten(problem: Problem, taut: Taut, *, solver: Solver, cells: int, points: int, insert: bool, key: tuple) -> Taut:
    """Pull once, judge every segment, and hold the string where it failed.

    A segment that fails gets a place at its peak; if it has two such places already, or has failed beside one in the
    third round, a bead instead (`insert`). A pull after which the worst segment is worse is undone, and every segment
    that had failed gets a bead.

    Args:
        problem: objective, judge and threshold.
        taut: the string so far.
        solver: of the pull.
        cells: places per segment of a new grid.
        points: cells of the grid on which a segment is judged.
        insert: whether beads may be inserted.
        key: of the random subsamples.
    """
    pulled = pull(problem, taut.path, taut.places, solver=solver, key=(*key, taut.round))
    steps = taut.steps + pulled.calls * taut.path.intermediate_beads
    peaks = _peaks(problem, pulled.path, points)
    if insert and peaks.losses.max() > taut.maxima.max() > problem.threshold:
        # Held harder and yet worse: it slipped over a ridge between its places. More beads follow the pass.
        return replace(_beaded(problem, taut, points, cells), round=taut.round + 1, steps=steps)
    held = Taut(pulled.path, taut.places, peaks.losses, pulled.stationarity, taut.round + 1, steps)
    every = torch.arange(len(held.path) - 1)
    failed, near = peaks.losses > problem.threshold, held.places.near(peaks.t)
    stuck = failed & ((held.places.count(len(every)) >= cells + 2) | (near & (taut.round >= 2)))
    if insert and stuck.any():
        return held.insert(every[stuck], peaks.t[stuck], cells)
    new = failed & ~near
    return replace(held, places=held.places.add(every[new], peaks.t[new]))


def _beaded(problem: Problem, taut: Taut, points: int, cells: int) -> Taut:
    """The string with a bead at the peak of every segment that failed."""
    failed = torch.nonzero(taut.maxima > problem.threshold)[:, 0]
    peaks = sample_segments(problem.judge, taut.path, failed, points=points, refine=False)
    return taut.insert(failed, peaks.t, cells)


def _peaks(problem: Problem, path: Path, points: int) -> Peaks:
    """Every segment's peak: a few looks settle that a segment fails, only one that seems to pass gets them all."""
    every = torch.arange(len(path) - 1)
    peaks = sample_segments(problem.judge, path, every, points=4, threshold=problem.threshold, refine=False)
    rest = torch.nonzero(peaks.losses <= problem.threshold)[:, 0]
    if len(rest):
        fine = sample_segments(problem.judge, path, rest, points=points, threshold=problem.threshold)
        peaks.losses[rest], peaks.t[rest] = fine.losses, fine.t
    return peaks
