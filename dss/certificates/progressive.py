"""Looks at a judge that stop as soon as a place fails: few samples before more, the middle of a segment before its quarters.

Evaluations on a subsample decide only what a search does next. What is said of a path in the end is said by all samples
(`sample_segments`, `certify`), so nothing here can make a path pass that does not.
"""

from collections.abc import Iterator
from math import inf

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from dss.base.path import Path
from dss.certificates.sampling import Peaks, evaluate, refined
from dss.objectives.objective import Objective

# Nested subsamples, and how far above the threshold a loss on them must lie, in shares of the threshold's size, to count as a
# failure: the mean of 64 samples is off by a good part of itself. A wrong failure costs a few more steps, nothing else.
LEVELS = ((64, 0.3), (256, 0.0))
# Running statistics that are recomputed at every point come from so many times the samples of a look.
CALIBRATION = 4
# Places of a segment, in the order in which they are looked at; 0 is the bead that it begins with, where a judge with kinks often
# peaks. The fine grid is that of `sample_segments`.
PLACES = ((0.5,), (0.0, 0.25, 0.75))
Place = tuple[int, float]


class ProgressiveJudge:
    """Where a path fails, found with as few evaluations as may be.

    Args:
        judge: the loss.
        threshold: what it must not exceed.
        scale: the unit of excesses; see `Problem.scale`.
    """

    def __init__(self, judge: Objective, threshold: float, scale: float):
        self.judge, self.threshold = judge, threshold
        # One fixed order, whose beginnings are the subsamples: they are nested, and the same in every search.
        order = torch.randperm(judge.samples, generator=torch.Generator().manual_seed(0))
        parts = [(judge.on_samples(order[:n]), share) for n, share in LEVELS if 2 * n <= judge.samples]
        parts = [(part.with_calibration_of(CALIBRATION * part.samples), share) for part, share in parts if part is not None]
        self.levels = [(part, threshold + share * scale) for part, share in parts]
        self.levels = self.levels or [(judge, threshold)]

    def failure(self, path: Path, first: Place | None = None) -> Place | None:
        """A place (segment, t) where the path is seen to fail; None if it passes at all coarse places.

        Args:
            first: a place that is looked at before all others: where the last look failed. All samples are asked there last.
        """
        segments = len(path) - 1
        groups = [[(s, t) for t in places for s in range(segments) if t or s] for places in PLACES]
        before = [[first]] if first is not None and first[0] < segments else []
        # Where the last look failed this one is likely to, on the larger subsample if not on the smaller.
        looks = [(judge, level, group) for group in before for judge, level in self.levels]
        looks += [(judge, level, group) for judge, level in self.levels for group in groups]
        # What failed on all samples may pass on a few: where it failed is asked before a judgement of everything is paid for.
        looks += [(self.judge, self.threshold, group) for group in before if self.levels[-1][0] is not self.judge]
        for judge, level, group in looks:
            losses = self._losses(judge, path, group)
            if (losses > level).any():
                return group[int(losses.argmax())]
        return None

    def judged(self, path: Path, grid: int) -> tuple[Peaks | None, Place | None]:
        """The judgement of a path by all samples, which ends where it is seen to fail: (peaks if it passed, place if it failed).

        A path that fails usually fails early, at a tenth of the price. Only peaks near the threshold are refined (`_peaks`); a
        certificate refines them all.
        """
        losses = torch.full((len(path) - 1, grid + 1), torch.nan, dtype=torch.float64)
        for places in self._likely(losses):
            which, column = torch.tensor(places).T
            found = losses[which, column] = evaluate(self.judge, path, which, column.double() / grid)
            if (found > self.threshold).any():
                worst = int(found.argmax())
                return None, (places[worst][0], places[worst][1] / grid)
        losses[:-1, -1] = losses[1:, 0]
        return self._peaks(path, losses)

    def _likely(self, losses: Tensor) -> Iterator[list[tuple[int, int]]]:
        """Places (segment, column) of the grid of `losses` `(n - 1, grid + 1)`, those that are likelier to fail first: beads, middles,
        then the rest, from where the losses found so far expect most. One by one where the judge takes them so, else together."""
        segments, middle = range(len(losses)), losses.shape[1] // 2
        yield from self._asked_together([(s, 0) for s in segments[1:]])
        yield from self._asked_together([(s, middle) for s in segments])
        expected = _expected(losses, middle)
        rest = [(s, i) for s in segments for i in range(1, losses.shape[1] - 1) if i != middle]
        yield from self._asked_together(sorted(rest, key=lambda place: -expected[place].item()))

    def _asked_together(self, places: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
        """Where each takes a pass of its own there is nothing to gain by more than are needed."""
        return [[place] for place in places] if self.judge.evaluates_apart or not places else [places]

    def verdict(self, path: Path, grid: int, first: Place | None = None) -> tuple[Tensor, Place | None]:
        """Whether a path passes, by all samples: few of them only say where it may fail, and are not believed before all are asked.

        Args:
            first: as for `failure`.

        Returns:
            Each segment's largest loss seen `(n - 1,)`, NaN where none was; and a place that fails, None if the path passes.
        """
        maxima = torch.full((len(path) - 1,), torch.nan, dtype=torch.float64)
        place = self.failure(path, first)
        loss = self._asked(path, place)
        if loss <= self.threshold:
            peaks, place = self.judged(path, grid)
            if peaks is not None:
                return peaks.losses, None
            loss = self._asked(path, place)
        assert place is not None  # a path that did not pass failed somewhere
        maxima[place[0]] = loss
        return maxima, place

    def _asked(self, path: Path, place: Place | None) -> float:
        """The loss of all samples at a place; below every threshold where there is none."""
        return -inf if place is None else self._losses(self.judge, path, [place]).item()

    def _peaks(self, path: Path, losses: Tensor) -> tuple[Peaks | None, Place | None]:
        """The peaks of segments whose losses `(n - 1, grid + 1)` on the grid pass; refined where they may not pass beside it."""
        grid = losses.shape[1] - 1
        best, index = losses[:, 1:-1].max(1)
        peaks = Peaks(best, (index + 1).double() / grid, losses.numel())
        near = torch.nonzero(best + _rise(losses, index + 1) > self.threshold)[:, 0]
        few = Peaks(best[near], peaks.t[near], 0)
        spread = (best - losses[:, 1:-1].amin(1)).clamp_min(torch.finfo(torch.float64).tiny)[near]
        few = refined(self.judge, path, near, few, 1 / grid, spread, self.threshold)
        peaks.losses[near], peaks.t[near] = few.losses, few.t
        worst = int(peaks.losses.argmax())
        failed = bool(peaks.losses[worst] > self.threshold)
        return (None, (worst, peaks.t[worst].item())) if failed else (peaks, None)

    def highest(self, path: Path) -> float:
        """The largest loss at the middles of the segments, on the largest subsample."""
        judge = self.levels[-1][0]
        return self._losses(judge, path, [(s, 0.5) for s in range(len(path) - 1)]).max().item()

    @staticmethod
    def _losses(judge: Objective, path: Path, places: list[tuple[int, float]]) -> Tensor:
        which, t = zip(*places, strict=True)
        return evaluate(judge, path, torch.tensor(which), torch.tensor(t, dtype=torch.float64))


def _expected(losses: Tensor, middle: int) -> Tensor:
    """Losses on a grid `(n - 1, grid + 1)`, linear between those at beads and middles; an end that was not asked counts as the lowest."""
    beads = torch.cat([losses[:, 0], losses.new_full((1,), torch.nan)]).nan_to_num(nan=losses[~losses.isnan()].min().item())
    known = torch.stack([beads[:-1], losses[:, middle], beads[1:]], 1)
    return interpolate(known[:, None], losses.shape[1], mode="linear", align_corners=True)[:, 0]


def _rise(losses: Tensor, peak: Tensor) -> Tensor:
    """How far the loss may rise beside the highest places `peak` `(m,)` of a grid, `(m, grid + 1)`: as far as it falls to the
    lower neighbour, which is four times what it may on a parabola; without bound beside an end of the path, which was not asked."""
    rows = torch.arange(len(losses))
    beside = torch.stack([losses[rows, peak - 1], losses[rows, peak + 1]]).nan_to_num(nan=-torch.inf)
    return losses[rows, peak] - beside.amin(0)
