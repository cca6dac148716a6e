"""Objectives around objectives: one that counts work, one that remembers losses."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dss.base.digest import digest
from dss.objectives.objective import Objective


@dataclass
class Tally:
    """Work done, in samples read: a loss on 1,000 samples counts 1,000."""

    loss_evaluations: int = 0
    gradient_evaluations: int = 0

    def restore(self, other: "Tally") -> None:
        """Take over the counts of an interrupted search."""
        self.loss_evaluations, self.gradient_evaluations = other.loss_evaluations, other.gradient_evaluations


class Counted(Objective):
    """`objective`, counting into `tally`: a call under autograd is a gradient evaluation, else a loss evaluation."""

    def __init__(self, objective: Objective, tally: Tally):
        self.objective, self.tally = objective, tally
        self.samples, self.batch_samples = objective.samples, objective.batch_samples
        self.description = objective.description
        self.known: dict[str, float] = {}

    def __call__(self, points: Tensor) -> Tensor:
        losses = self.objective(points)
        if not self._count(points, self.samples):
            self.known.update(zip(map(digest, points), losses.tolist(), strict=True))
        return losses

    def recalled(self, points: Tensor) -> Tensor:
        """Losses `(k,)` without gradient, of points seen before from memory: a search's looks serve its certificate."""
        points = points.detach()
        keys = [digest(point) for point in points]
        fresh = torch.tensor([key not in self.known for key in keys])
        if fresh.any():
            self(points[fresh.to(points.device)])
        return torch.tensor([self.known[key] for key in keys], dtype=torch.float64)

    def estimate(self, points: Tensor, generator: torch.Generator) -> Tensor:
        self._count(points, self.batch_samples)
        return self.objective.estimate(points, generator)

    @property
    def exact_estimate(self) -> bool:
        return self.objective.exact_estimate

    def part(self, samples: int) -> Objective | None:
        return self.objective.part(samples)

    def enclose(self, starts: Tensor, ends: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        return self.objective.enclose(starts, ends, lower, upper)

    def _count(self, points: Tensor, samples: int) -> bool:
        """Count one call; whether it is a gradient evaluation."""
        gradient = points.requires_grad and torch.is_grad_enabled()
        if gradient:
            self.tally.gradient_evaluations += samples * len(points)
        else:
            self.tally.loss_evaluations += samples * len(points)
        return gradient


class Recalled(Objective):
    """What `counted` judges, from its memory where it can: for certificates, which repeat the looks of the search.

    A search itself never recalls: its path must not depend on which losses an interrupted process had in memory.
    """

    def __init__(self, counted: Counted):
        self.counted = counted
        self.samples, self.description = counted.samples, counted.description

    def __call__(self, points: Tensor) -> Tensor:
        return self.counted.recalled(points)

    def part(self, samples: int) -> Objective | None:
        return self.counted.part(samples)

    def enclose(self, starts: Tensor, ends: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        return self.counted.enclose(starts, ends, lower, upper)
