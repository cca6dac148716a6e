"""The question of people who merge: may these be averaged?"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from dss.averaging.answer import Check
from dss.averaging.line import LossLine, look_along
from dss.averaging.soups import Soup, greedy_soup, loss_of, uniform_soup
from dss.averaging.tolerance import Tolerance
from dss.base.errors import EnclosureError, InputError
from dss.base.limits import Limits
from dss.base.path import Path
from dss.base.progress import ProgressMeter
from dss.base.rounded import above
from dss.certificates.bracket import Verdict
from dss.certificates.closing import bracket
from dss.objectives.objective import End, Objective
from dss.topology.frame import aligned
from dss.topology.points import Pair, all_pairs, losses_at, stacked

# A proof of a line ends when its bound lies above the largest loss seen by less than this share of it.
PROOF_TOLERANCE = 0.01
# Seconds that the proof of one line gets unless limits say otherwise.
PROOF_SECONDS = 60.0


def check(
    objective: Objective,
    points: Tensor | Sequence[End],
    *,
    judge: Objective | None = None,
    metrics: Mapping[str, Objective] | None = None,
    names: Sequence[str] | None = None,
    tolerance: float | str | Tolerance = "1.05x",
    pairs: bool = True,
    align: Literal["weights", "activations"] | None = None,
    prove: bool = False,
    limits: Limits = Limits(seconds=PROOF_SECONDS),
    seed: int = 0,
    progress: ProgressMeter | None = None,
) -> Check:
    """Whether models may be averaged: the loss along the line between two, or at the averages of more.

    Args:
        objective: the training loss; running statistics come from its data.
        points: `(n, p)`, or n >= 2 points `(p,)` or state dicts.
        judge: the loss that decides; the objective itself by default. Give held-out data where you have them.
        metrics: other losses to be evaluated too, by name.
        names: of the models; their numbers by default.
        tolerance: an average of two is safe while it is worse than their losses, averaged likewise, by at most so much
            (`0.02`), or so many times them (`"1.05x"`); one of more, than their median.
        pairs: whether the lines of all pairs are looked at, of more than two models.
        align: also try copies whose units stand in the order closest to the others'; see `dss.align`.
        prove: whether the largest loss on every line is bounded rigorously, to a hundredth of it.
        limits: cells of the proof of one line, and seconds of all proofs together.
        seed: of the alignment.
        progress: shown lines and proofs.

    Raises:
        InputError: fewer than two points, points that do not fit, a loss of them that is not finite, unknown options.
    """
    points = stacked(objective, points, names)
    if len(points) < 2:
        raise InputError(f"two models or more can be averaged, got {len(points)}")
    judge = objective if judge is None else judge.calibrated_by(objective)
    metrics = {name: metric.calibrated_by(objective) for name, metric in (metrics or {}).items()}
    names = tuple(map(str, range(len(points)))) if names is None else tuple(names)
    looked = all_pairs(len(points)) if pairs or len(points) == 2 else []
    looker = _Looker(
        judge, metrics, names, Tolerance.of(tolerance), looked, limits if prove else None, time.monotonic(), progress
    )
    found = looker.look(points, None)
    if align is None:
        return found
    return replace(found, aligned=looker.look(aligned(objective, points, by=align, seed=seed), align))


@dataclass(frozen=True, eq=False)
class _Looker:
    """What the checks of models and of their reordered copies share."""

    judge: Objective
    metrics: Mapping[str, Objective]
    names: tuple[str, ...]
    tolerance: Tolerance
    pairs: list[Pair]
    limits: Limits | None
    began: float
    progress: ProgressMeter | None

    def look(self, points: Tensor, align: str | None) -> Check:
        """Evaluate everything."""
        losses = losses_at(self.judge, points, self.names)
        uniform = self._measured(uniform_soup(self.judge, points))
        greedy = self._measured(greedy_soup(self.judge, points, losses))
        metrics = {name: losses_at(metric, points, self.names) for name, metric in self.metrics.items()}
        lines = dict(self._lines(points))
        return Check(self.names, losses, uniform, greedy, lines, self.tolerance, metrics, self.judge.description, align)

    def _measured(self, soup: Soup) -> Soup:
        return replace(soup, metrics={name: loss_of(metric, soup.point) for name, metric in self.metrics.items()})

    def _lines(self, points: Tensor) -> Iterator[tuple[Pair, LossLine]]:
        """The line of every pair that is looked at; metrics only between two models, where they are drawn."""
        metrics = self.metrics if len(points) == 2 else {}
        progress = self.progress or ProgressMeter()
        with progress.stage("lines", "pairs") as meter:
            for done, (i, j) in enumerate(self.pairs, 1):
                line = look_along(self.judge, points[i], points[j], metrics)
                yield (
                    (i, j),
                    line if self.limits is None else self._proved(line, Path(points[[i, j]]), self.limits.left(self.began)),
                )
                meter.report(done, f"of {len(self.pairs)}")

    def _proved(self, line: LossLine, path: Path, limits: Limits) -> LossLine:
        """The line with a bound on its largest loss, or the reason why there is none."""
        try:
            found = bracket(self.judge, path, tolerance=PROOF_TOLERANCE, limits=limits)
        except EnclosureError as error:
            return replace(line, proof=f"no proof: {error}")
        if found.verdict is Verdict.BRACKETED:
            return replace(line, bracket=found, proof=f"proved: nowhere on the line is the loss above {above(found.upper)}")
        if found.upper == float("inf"):
            return replace(line, proof=f"no proof: {found.verdict.value}")
        words = f"proved, but not closely: nowhere on the line is the loss above {above(found.upper)} ({found.verdict.value})"
        return replace(line, bracket=found, proof=words)
