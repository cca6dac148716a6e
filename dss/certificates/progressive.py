"""Looks at a judge that stop as soon as a place fails: few samples before more, the middle of a segment before its quarters.

Evaluations on a subsample decide only what a search does next. What is said of a path in the end is said by all samples
(`sample_segments`, `certify`), so nothing here can make a path pass that does not.
"""

import torch
from torch import Tensor

from dss.base.path import Path
from dss.certificates.sampling import evaluate
from dss.objectives.objective import Objective

# Nested subsamples, and how far above the threshold a loss on them must lie, in shares of the threshold's size, to count as a
# failure: the mean of 64 samples is off by a good part of itself. A wrong failure costs a few more steps, nothing else.
LEVELS = ((64, 0.3), (256, 0.0))
# Places of a segment, in the order in which they are looked at. The fine grid is that of `sample_segments`.
PLACES = ((0.5,), (0.25, 0.75))


class ProgressiveJudge:
    """Where a path fails, found with as few evaluations as may be.

    Args:
        judge: the loss.
        threshold: what it must not exceed.
        scale: the unit of excesses; see `Problem.scale`.
    """

    def __init__(self, judge: Objective, threshold: float, scale: float):
        self.threshold = threshold
        # One fixed order, whose beginnings are the subsamples: they are nested, and the same in every search.
        order = torch.randperm(judge.samples, generator=torch.Generator().manual_seed(0))
        parts = [(judge.on_samples(order[:n]), share) for n, share in LEVELS if 2 * n <= judge.samples]
        self.levels = [(part, threshold + share * scale) for part, share in parts if part is not None]
        self.levels = self.levels or [(judge, threshold)]

    def failure(self, path: Path, first: tuple[int, float] | None = None) -> tuple[int, float] | None:
        """A place (segment, t) where the path is seen to fail; None if it passes at all coarse places.

        Args:
            first: a place that is looked at before all others: where the last look failed.
        """
        segments = len(path) - 1
        groups = [[(s, t) for t in places for s in range(segments)] for places in PLACES]
        groups = ([[first]] if first is not None and first[0] < segments else []) + groups
        for judge, level in self.levels:
            for group in groups:
                losses = self._losses(judge, path, group)
                if (losses > level).any():
                    return group[int(losses.argmax())]
        return None

    def highest(self, path: Path) -> float:
        """The largest loss at the middles of the segments, on the largest subsample."""
        judge = self.levels[-1][0]
        return self._losses(judge, path, [(s, 0.5) for s in range(len(path) - 1)]).max().item()

    @staticmethod
    def _losses(judge: Objective, path: Path, places: list[tuple[int, float]]) -> Tensor:
        which, t = zip(*places, strict=True)
        return evaluate(judge, path, torch.tensor(which), torch.tensor(t, dtype=torch.float64))
