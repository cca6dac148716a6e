"""The one abstraction: a function from a batch of points to a batch of losses, rows independent."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from dss.base.chunks import all_finite
from dss.base.errors import EnclosureError, InputError
from dss.base.path import Path

End = Tensor | Mapping[str, Tensor]
"""What users give as a point: a tensor `(p,)`, or a state dict where the objective is a network's."""


class Objective(ABC):
    """A loss on parameter space: `(k, p) -> (k,)`, where row i of the result depends on row i alone.

    Gradients are plain autograd of `objective(points).sum()`, valid because rows are independent.

    Attributes:
        size: how many coordinates p its points have; None if any number will do.
        samples: how many data samples one evaluation of one point reads (1 for analytic functions).
        batch_samples: how many of them one call of `estimate` reads per point.
        description: what the loss is and on which data, for people.
    """

    size: int | None = None
    samples: int = 1
    batch_samples: int = 1
    description: str = "analytic function"

    @abstractmethod
    def __call__(self, points: Tensor) -> Tensor:
        """Exact, deterministic losses `(k,)` in float64 of `points` `(k, p)`; differentiable."""

    def estimate(self, points: Tensor, generator: torch.Generator) -> Tensor:
        """Losses `(k,)` that gradients may come from: a minibatch drawn with `generator`, or the exact ones."""
        return self(points)

    def along(self, path: Path, segments: Tensor, t: Tensor) -> Tensor:
        """Losses `(k,)` at places t of segments of a path, both `(k,)`, without gradient: those of its points."""
        with torch.no_grad():
            return self(path.points(segments, t))

    @property
    def exact_estimate(self) -> bool:
        """Whether `estimate` is the exact loss, so that a training step tells the loss for free."""
        return type(self).estimate is Objective.estimate

    @property
    def unwrapped(self) -> "Objective":
        """The objective itself, without what is wrapped around it."""
        return self

    def flatten(self, state: Mapping[str, Tensor]) -> Tensor:
        """The point `(p,)` of a state dict.

        Raises:
            InputError: the state does not fit, or this objective knows no state dicts.
        """
        raise InputError("a state dict is read by a network's objective only; give a point (p,)")

    def calibrated_by(self, training: "Objective") -> "Objective":
        """This judge, with whatever it must take from the training data (running statistics) taken from `training`."""
        return self

    def part(self, samples: int) -> "Objective | None":
        """The loss on `samples` of the data, spread over it: cheap, and similar. None if there is no such thing."""
        return None

    def on_samples(self, index: Tensor) -> "Objective | None":
        """The loss on the samples numbered `index` `(m,)` alone. None if there is no such thing."""
        return None

    def with_calibration_of(self, samples: int) -> "Objective":
        """The same loss with running statistics from at most so many samples, spread over those that it takes them from: quicker, and
        similar. Itself where none are recomputed, or from no more already."""
        return self

    def with_batches_of(self, samples: int) -> "Objective":
        """The same loss with an `estimate` that reads at most so many samples; itself where it reads no more already."""
        return self

    @property
    def evaluates_apart(self) -> bool:
        """Whether points are evaluated one by one, so that a loss has the same bits whatever others are asked for with it."""
        return False

    @property
    def samples_at_once(self) -> int:
        """How many samples `plain` can take in bounded memory."""
        return self.samples

    def plain(self, points: Tensor) -> Tensor:
        """Losses `(k,)` as the user would compute them: in the dtype of the points, on all samples in one piece.

        Proofs are checked against it, so it shares nothing with what computes bounds, nor chunks.
        """
        return self(points)

    def enclose(self, starts: Tensor, ends: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Rigorous bounds on cells of segments.

        Cell i is {starts[i] + t (ends[i] - starts[i]) : lower[i] <= t <= upper[i]}. Some convex function lies above
        the exact loss on the whole cell; its values at the corners of its domain are returned, so that the largest
        bounds the cell. Averages of such values over parts of the data bound the average loss.

        Args:
            starts, ends: `(k, p)`, the segments' beads.
            lower, upper: `(k,)` float64, 0 <= lower < upper <= 1.

        Returns:
            `(k, c)` float64, c values for each cell.

        Raises:
            EnclosureError: this objective cannot be enclosed; the message names why.
        """
        raise EnclosureError(f"{type(self).__name__} has no enclosure: only a sampled certificate can judge it")

    def floor(self, starts: Tensor, ends: Tensor, t: Tensor) -> Tensor:
        """Rigorous lower bounds `(k,)` on the losses at places `t` `(k,)` of segments, the rounding of computing them enclosed.

        Raises:
            EnclosureError: this objective cannot be enclosed; the message names why.
        """
        raise EnclosureError(f"{type(self).__name__} has no enclosure: a loss of it is computed, and not proved")

    def apart(self, points: Tensor) -> "Apart | None":
        """Bounds on single samples, of which the bound on the loss is a mean, for points like these. None if there are no such."""
        return None


class Apart(ABC):
    """An objective's samples, each with a loss of its own.

    Attributes:
        block: how many are best bounded together.
    """

    block: int = 64

    @abstractmethod
    def enclose(self, starts: Tensor, ends: Tensor, lower: Tensor, upper: Tensor, index: Tensor) -> Tensor:
        """Bounds `(k, m, c)` as `Objective.enclose` has them, for the samples `index` `(k, m)`; `lower` and `upper` are
        multiples of 2^-45."""

    @abstractmethod
    def mean(self, values: Tensor) -> Tensor:
        """Bounds `(c,)` on the objective, from bounds `(n, c)` on all its samples."""

    @abstractmethod
    def losses(self, point: Tensor, index: Tensor | None = None) -> Tensor:
        """Computed losses `(n,)` of all samples at a point `(p,)`, or of those at `index` `(n,)`."""


def as_point(objective: Objective, given: End, name: str) -> Tensor:
    """The point `(p,)` that was given as one or as a state dict, detached; `name` is what errors call it.

    Raises:
        InputError: it is neither, does not fit the objective, or is not finite.
    """
    if isinstance(given, Mapping):
        try:
            return objective.flatten(given)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    if not isinstance(given, Tensor):
        raise InputError(f"{name} must be a point (p,) or a state dict, got {type(given).__name__}")
    size = given.numel() if objective.size is None else objective.size
    if given.shape != (size,) or not given.is_floating_point() or not all_finite(given):
        raise InputError(f"{name} must be a finite point ({size},) of floating-point numbers, got {_described(given)}")
    return given.detach()


def _described(point: Tensor) -> str:
    nonfinite = "" if all_finite(point) else " with NaN or infinity"
    return f"{tuple(point.shape)} {point.dtype}{nonfinite}"
