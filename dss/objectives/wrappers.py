"""Objectives around objectives: a base that forwards everything, one that counts work, one that remembers losses."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from typing import Any

import torch
from torch import Tensor

from dss.base.digest import digest
from dss.base.limits import Budget
from dss.base.path import Path
from dss.objectives.objective import Apart, Objective


class Wrapped(Objective):
    """An objective around another. What a subclass does not say itself is what the inner one says.

    A wrapper that forgot to forward a question would answer it as if it were a bare function: by no statistics of its
    own, by no enclosure, by an estimate that is exact. So everything is forwarded here, once, and a test compares this
    class with `Objective` member by member.

    Attributes:
        objective: the inner one.
    """

    def __init__(self, objective: Objective):
        self.objective = objective

    def around(self, objective: Objective) -> "Wrapped":
        """The same wrapper around another objective."""
        other = copy.copy(self)
        other.objective = objective
        return other

    @property
    def size(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.objective.size

    @property
    def samples(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.objective.samples

    @property
    def batch_samples(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.objective.batch_samples

    @property
    def description(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.objective.description

    @property
    def exact_estimate(self) -> bool:
        return self.objective.exact_estimate

    @property
    def unwrapped(self) -> Objective:
        return self.objective.unwrapped

    def __call__(self, points: Tensor) -> Tensor:
        return self.objective(points)

    def estimate(self, points: Tensor, generator: torch.Generator) -> Tensor:
        return self.objective.estimate(points, generator)

    def along(self, path: Path, segments: Tensor, t: Tensor) -> Tensor:
        with torch.no_grad():
            return self(path.points(segments, t))  # of this objective, not of the inner one, whose losses it may change

    def flatten(self, state: Mapping[str, Tensor]) -> Tensor:
        return self.objective.flatten(state)

    def calibrated_by(self, training: Objective) -> Objective:
        return self.around(self.objective.calibrated_by(training))

    def part(self, samples: int) -> Objective | None:
        part = self.objective.part(samples)
        return None if part is None else self.around(part)

    def on_samples(self, index: Tensor) -> Objective | None:
        part = self.objective.on_samples(index)
        return None if part is None else self.around(part)

    def with_calibration_of(self, samples: int) -> Objective:
        return self.around(self.objective.with_calibration_of(samples))

    def with_batches_of(self, samples: int) -> Objective:
        return self.around(self.objective.with_batches_of(samples))

    @property
    def evaluates_apart(self) -> bool:
        return self.objective.evaluates_apart

    @property
    def samples_at_once(self) -> int:
        return self.objective.samples_at_once

    def plain(self, points: Tensor) -> Tensor:
        return self.objective.plain(points)

    def enclose(self, starts: Tensor, ends: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        return self.objective.enclose(starts, ends, lower, upper)

    def apart(self, points: Tensor) -> Apart | None:
        return self.objective.apart(points)

    def floor(self, starts: Tensor, ends: Tensor, t: Tensor) -> Tensor:
        return self.objective.floor(starts, ends, t)


@dataclass
class Tally:
    """Work done, in samples read: a loss on 1,000 samples counts 1,000."""

    loss_evaluations: int = 0
    gradient_evaluations: int = 0

    def restore(self, other: "Tally") -> None:
        """Take over the counts of an interrupted search."""
        self.loss_evaluations, self.gradient_evaluations = other.loss_evaluations, other.gradient_evaluations

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.loss_evaluations + other.loss_evaluations, self.gradient_evaluations + other.gradient_evaluations)


Key = str | tuple[str, str, float]
"""What a loss is remembered by: the digest of a point, or those of two beads and a place between them."""

# Points of more bytes are remembered as places of a path alone: to read them all for a digest takes as long as some losses.
NAMED_BYTES = 2**20


class Counted(Wrapped):
    """`objective`, counting into `tally`: a call under autograd is a gradient evaluation, else a loss evaluation.

    Attributes:
        tally: of the work.
        budget: asked before every evaluation; it has no limits unless a search or a shortening sets some.
        known: losses without gradient.
    """

    def __init__(self, objective: Objective, tally: Tally, budget: Budget | None = None):
        super().__init__(objective)
        self.tally, self.budget = tally, Budget() if budget is None else budget
        self.known: dict[Key, float] = {}

    def around(self, objective: Objective) -> "Counted":
        return Counted(objective, self.tally, self.budget)  # what is known is known of the other objective

    def __call__(self, points: Tensor) -> Tensor:
        losses, gradient = self._evaluated(points)
        if not gradient and points.nbytes <= NAMED_BYTES * len(points):
            self.known.update(zip(map(digest, points), losses.tolist(), strict=True))
        return losses

    def along(self, path: Path, segments: Tensor, t: Tensor) -> Tensor:
        with torch.no_grad():
            losses, _ = self._evaluated(path.points(segments, t))
        self.known.update(zip(_places(path, segments, t), losses.tolist(), strict=True))
        return losses

    def recalled(self, points: Tensor) -> Tensor:
        """Losses `(k,)` without gradient, of points seen before from memory: a search's evaluations serve its certificate."""
        points = points.detach()
        if points.nbytes > NAMED_BYTES * len(points):
            return self(points).double().cpu()
        keys = [digest(point) for point in points]
        fresh = torch.tensor([key not in self.known for key in keys])
        if fresh.any():
            self(points[fresh.to(points.device)])
        return torch.tensor([self.known[key] for key in keys], dtype=torch.float64)

    def recalled_along(self, path: Path, segments: Tensor, t: Tensor) -> Tensor:
        """The same at places t of segments of a path, both `(k,)`."""
        keys = _places(path, segments, t)
        fresh = torch.tensor([key not in self.known for key in keys])
        if fresh.any():
            self.along(path, segments[fresh], t[fresh])
        return torch.tensor([self.known[key] for key in keys], dtype=torch.float64)

    def known_along(self, path: Path, segments: Tensor, t: Tensor) -> Tensor:
        """Losses `(k,)` float64 on the CPU at places of a path where `along` was asked before; NaN elsewhere. Nothing is evaluated."""
        return torch.tensor([self.known.get(key, nan) for key in _places(path, segments, t)], dtype=torch.float64)

    def _evaluated(self, points: Tensor) -> tuple[Tensor, bool]:
        """Losses, and whether there will be gradients: within the budget, and counted."""
        self.budget.spend(len(points))
        losses = self.objective(points)
        return losses, self._count(points, self.samples)

    def estimate(self, points: Tensor, generator: torch.Generator) -> Tensor:
        self.budget.spend(0)
        self._count(points, self.batch_samples)
        return self.objective.estimate(points, generator)

    def _count(self, points: Tensor, samples: int) -> bool:
        """Count one call; whether it is a gradient evaluation."""
        gradient = points.requires_grad and torch.is_grad_enabled()
        if gradient:
            self.tally.gradient_evaluations += samples * len(points)
        else:
            self.tally.loss_evaluations += samples * len(points)
        return gradient


class Recalled(Wrapped):
    """What `counted` judges, from its memory where it can: for certificates, which repeat the evaluations of the search.

    A search itself never recalls: its path must not depend on which losses an interrupted process had in memory.

    Attributes:
        proofs: what was proved of paths so far, by the digests of their beads.
    """

    objective: Counted

    def __init__(self, counted: Counted):
        super().__init__(counted)
        self.proofs: dict[tuple[str, ...], Any] = {}

    def __call__(self, points: Tensor) -> Tensor:
        return self.objective.recalled(points)

    def along(self, path: Path, segments: Tensor, t: Tensor) -> Tensor:
        return self.objective.recalled_along(path, segments, t)


def _places(path: Path, segments: Tensor, t: Tensor) -> list[Key]:
    """Keys of points of a path; a bead is known by its own digest."""
    names = path.digests

    def key(segment: int, t: float) -> Key:
        return names[segment + int(t)] if t in (0.0, 1.0) else (names[segment], names[segment + 1], t)

    return [key(*place) for place in zip(segments.tolist(), t.tolist(), strict=True)]
