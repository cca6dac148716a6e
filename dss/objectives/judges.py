"""Judges that torch does not name."""

import torch
from torch import Tensor

from dss.objectives.wrappers import Wrapped


def error_rate(output: Tensor, target: Tensor) -> Tensor:
    """Share of samples whose largest output is not the target class.

    Args:
        output: `(n, classes)` scores.
        target: `(n,)` integer classes.
    """
    return (output.argmax(-1) != target).double().mean()


class Perplexity(Wrapped):
    """`exp` of a mean cross-entropy, as language models are judged; the mean is taken before the exponential.

    Args:
        objective: the mean cross-entropy in nats.
    """

    @property
    def description(self) -> str:
        return f"perplexity of {self.objective.description}"

    def __call__(self, points: Tensor) -> Tensor:
        return self.objective(points).exp()

    def estimate(self, points: Tensor, generator: torch.Generator) -> Tensor:
        return self.objective.estimate(points, generator).exp()

    def plain(self, points: Tensor) -> Tensor:
        return self.objective.plain(points).exp()

    def enclose(self, starts: Tensor, ends: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        # exp is increasing and convex, so exp of a convex bound is one; its rounding is far below 2^-40.
        return self.objective.enclose(starts, ends, lower, upper).exp() * (1 + 2.0**-40)
