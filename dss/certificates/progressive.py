"""Looks at a judge that stop as soon as a place fails: few samples before more, the middle of a segment before its quarters.

Evaluations on a subsample decide only what a search does next. What is said of a path in the end is said by all samples
(`sample_segments`, `certify`), so nothing here can make a path pass that does not.
"""

import torch
from torch import Tensor

from dss.base.path import Path
from dss.certificates.sampling import Peaks, evaluate, sample_segments
from dss.objectives.objective import Objective

# Nested subsamples, and how far above the threshold a loss on them must lie, in shares of the threshold's size, to count as a
# failure: the mean of 64 samples is off by a good part of itself. A wrong failure costs a few more steps, nothing else.
LEVELS = ((64, 0.3), (256, 0.0))
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
        self.levels = [(part, threshold + share * scale) for part, share in parts if part is not None]
        self.levels = self.levels or [(judge, threshold)]

    def failure(self, path: Path, first: Place | None = None) -> Place | None:
        """A place (segment, t) where the path is seen to fail; None if it passes at all coarse places.

        Args:
            first: a place that is looked at before all others: where the last look failed. All samples are asked there last.
        """
        segments = len(path) - 1
        groups = [[(s, t) for t in places for s in range(segments) if t or s] for places in PLACES]
        before = [[first]] if first is not None and first[0] < segments else []
        looks = [(judge, level, group) for judge, level in self.levels for group in before + groups]
        # What failed on all samples may pass on a few: where it failed is asked before a judgement of everything is paid for.
        looks += [(self.judge, self.threshold, group) for group in before if self.levels[-1][0] is not self.judge]
        for judge, level, group in looks:
            losses = self._losses(judge, path, group)
            if (losses > level).any():
                return group[int(losses.argmax())]
        return None

    def judged(self, path: Path, grid: int) -> tuple[Peaks | None, Place | None]:
        """The judgement of a path by all samples, which ends where it is seen to fail: (peaks if it passed, place if it failed).

        Beads and middles come first: a path that fails usually fails there, at a tenth of the price. What passes has passed the whole
        of `sample_segments`, and at every bead.
        """
        segments = len(path) - 1
        for t in (0.0, 0.5):
            group = [(s, t) for s in range(segments) if t or s]
            losses = self._losses(self.judge, path, group) if group else torch.zeros(0)
            if (losses > self.threshold).any():
                return None, group[int(losses.argmax())]
        peaks = sample_segments(self.judge, path, grid=grid, threshold=self.threshold)
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
