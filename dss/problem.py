"""The question: two ends, a threshold, and the loss that must stay below it, validated once."""

import hashlib
import math
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.base.gradients import with_gradients
from dss.base.limits import Budget, Limits
from dss.base.path import Path
from dss.certificates.sampling import evaluate_beads
from dss.objectives.objective import End, Objective, as_point
from dss.objectives.wrappers import Counted, Recalled, Tally


@dataclass(frozen=True, eq=False)
class Problem:
    """Two ends to be joined below a threshold, validated.

    Attributes:
        objective: gradients come from it.
        judge: the loss that must stay at or below `threshold`.
        straight: the straight line between the two ends.
        loss_start, loss_end: judged.
        seed: of every random choice.
        tally: work done so far, counted through `objective` and `judge`.
        budget: what every evaluation through them is asked of; see `limited`.
    """

    objective: Counted
    judge: Counted
    straight: Path
    threshold: float
    loss_start: float
    loss_end: float
    seed: int
    tally: Tally
    budget: Budget = field(default_factory=Budget)

    @classmethod
    def of(
        cls,
        objective: Objective,
        start: End,
        end: End,
        *,
        threshold: float,
        judge: Objective | None = None,
        seed: int = 0,
        adopt: bool = False,
    ) -> "Problem":
        """Validate once what every finder relies on.

        Args:
            adopt: take the two points themselves, to which the caller will not write, instead of copies.

        Raises:
            InputError: ends that are no points of the objective, differ in size, dtype or device, are identical, or lie above
                the threshold; a threshold that is not finite.
        """
        start, end = ends_of(objective, start, end, adopt=adopt)
        if torch.equal(start, end):
            raise InputError("the two ends are identical: there is no path to find")
        threshold = _finite(threshold)
        tally, budget = Tally(), Budget()
        judged = objective if judge is None else judge.calibrated_by(objective)
        counted = Counted(objective, tally, budget)
        judge = counted if judged is objective else Counted(judged, tally, budget)
        straight = Path.straight(start, end)
        first, last = evaluate_beads(judge, straight).tolist()
        if not max(first, last) <= threshold:
            raise InputError(
                f"both ends must have a loss of at most the threshold {threshold:g}, got {first:.6g} and {last:.6g} "
                f"({judge.description}); raise the threshold or train the ends further"
            )
        return cls(counted, judge, straight, threshold, first, last, seed, tally, budget)

    @property
    def start(self) -> Tensor:
        """The first end `(p,)`."""
        return self.straight.rows[0]

    @property
    def end(self) -> Tensor:
        """The other end `(p,)`."""
        return self.straight.rows[-1]

    @property
    def scale(self) -> float:
        """The threshold's size, or 1 for a threshold of 0: the unit in which violations of it are measured."""
        return abs(self.threshold) or 1.0

    @cached_property
    def recalled(self) -> Recalled:
        """The judge, with what the search evaluated in its memory: for certificates. A search itself never recalls."""
        return Recalled(self.judge)

    def limited(self, limits: Limits, *, began: float) -> AbstractContextManager[None]:
        """Within it, an evaluation beyond the limits of work that began at `began` raises `Spent`."""
        evaluations = self.tally.loss_evaluations / self.judge.samples
        return self.budget.limited(limits, began=began, evaluations=evaluations)

    def afresh(self) -> "Problem":
        """The same question with nothing counted yet, and no limits."""
        tally, budget = Tally(), Budget()
        objective = Counted(self.objective.objective, tally, budget)
        judge = objective if self.judge is self.objective else Counted(self.judge.objective, tally, budget)
        return replace(self, objective=objective, judge=judge, tally=tally, budget=budget)

    def generator(self, *key: object) -> torch.Generator:
        """Random numbers of one purpose: the same for the same seed and key, whatever was drawn elsewhere."""
        digest = hashlib.sha256(repr((self.seed, *key)).encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _finite(threshold: object) -> float:
    try:
        number = float(threshold)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, RuntimeError) as error:  # None, words, a tensor of several numbers
        raise InputError(f"the threshold must be a number, got {threshold!r}") from error
    if not math.isfinite(number):
        raise InputError(f"the threshold must be a finite number, got {threshold}")
    return number


@with_gradients()
def ends_of(objective: Objective, start: End, end: End, *, adopt: bool = False) -> tuple[Tensor, Tensor]:
    """The two ends of a path as points `(p,)` of the objective, fit for one another: copies, or `adopt`ed.

    Raises:
        InputError: one is no point of the objective; they differ in size, dtype or device.
    """
    a, b = as_point(objective, start, "the start"), as_point(objective, end, "the end")
    # A state dict was flattened into a point of ours already.
    start, end = (p.clone() if isinstance(given, Tensor) and not adopt else p for given, p in ((start, a), (end, b)))
    if start.shape != end.shape or start.dtype != end.dtype or start.device != end.device:
        raise InputError(
            f"the ends must be points of one shape, dtype and device, got {tuple(start.shape)} {start.dtype} "
            f"{start.device} and {tuple(end.shape)} {end.dtype} {end.device}"
        )
    return start, end
