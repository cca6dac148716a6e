"""Train all inner beads of a string at once by the loss at places all over the segments beside them."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dss.base.path import Path
from dss.finders.descent import OptimizerFactory
from dss.objectives.objective import Objective
from dss.problem import Problem

# Places on every segment at one step where the loss is exact: such losses are cheap, and the worse half of them is
# trained. Estimates from minibatches cost by the place, and get one for every inner bead.
EXACT_DRAWS = 8
# By what share of its part a place goes on from step to step: places so far are then spread more evenly than random ones are
# (Kronecker's sequence), and a fifteenth to an eighth fewer steps are needed.
GOLDEN = (5**0.5 - 1) / 2
# Share of the first and last segment, beside the ends, where no place is drawn: losses are low there, and beads have little share
# of those places. All steps go to the middle: a third to a half fewer are needed.
LEFT_OUT = 0.4
# The string that is looked at is a running mean of this weight: the steps' noise is in each of them, not in their mean.
AVERAGING = 0.9
# Samples of one minibatch, at most: below, a step's own overhead is all of its time; above, noise falls slower than time grows.
BATCH = 64


@dataclass(frozen=True, eq=False)
class Trained:
    """A string in training, until its next step.

    Attributes:
        ends: `(2, p)`.
        inner: `(m, p)`, the running mean of the beads between them, which goes on changing.
        loss: the mean at the last places.
        gradient_steps: of all beads together.
    """

    ends: Tensor
    inner: Tensor
    loss: float
    gradient_steps: int

    @property
    def path(self) -> Path:
        """The string as it is now."""
        return Path([self.ends[0], *self.inner.clone(), self.ends[1]])


def natural_rate(problem: Problem, share: float) -> float:
    """A step of the optimizer as a share of the root mean square difference of the ends' coordinates.

    Adam moves every coordinate by about its rate, so the share says how many steps lead from one end to the other,
    whatever the network's scale: a rule for the rate that needs no trial.
    """
    # One norm in float64, never a float64 copy of a large difference.
    apart = (problem.end - problem.start).norm(dtype=torch.float64).item()
    return share * apart / problem.start.numel() ** 0.5


def train_segments(problem: Problem, path: Path, optimizer: OptimizerFactory, generator: torch.Generator) -> Iterator[Trained]:
    """The string after every step of the optimizer, without end.

    Args:
        path: at least three beads; left as it is.
        optimizer: of the inner beads, as one tensor.
        generator: draws the first places, and minibatches.
    """
    ends, inner = path.beads[[0, -1]], path.beads[1:-1].clone().requires_grad_()
    mean, stepper, taken = inner.detach().clone(), optimizer([inner]), 0
    objective = problem.objective.with_batches_of(BATCH)
    for places in moving_places(objective, len(inner), generator):
        inner.grad, loss = segment_gradient(objective, ends, inner, places, generator)
        stepper.step()
        taken += len(inner)
        mean.lerp_(inner.detach(), 1 - AVERAGING)
        yield Trained(ends, mean, loss, taken)


def moving_places(objective: Objective, beads: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Places for one step after the other, without end: one in each of equal parts of the string without its outermost, at random
    at first.

    Args:
        beads: between the ends.

    Yields:
        `(m,)` float64: whole numbers are beads, 0 the first end.
    """
    draws = EXACT_DRAWS * (beads + 1) if objective.exact_estimate else beads
    width = (beads + 1 - 2 * LEFT_OUT) / draws
    within = torch.rand(draws, generator=generator, dtype=torch.float64)
    while True:
        yield LEFT_OUT + (torch.arange(draws) + within) * width
        within = (within + GOLDEN) % 1


def segment_gradient(
    objective: Objective, ends: Tensor, inner: Tensor, places: Tensor, generator: torch.Generator
) -> tuple[Tensor, float]:
    """The gradient of the mean loss at places of a string with respect to its inner beads, and that loss.

    Args:
        ends, inner: `(2, p)` and `(m, p)`, the beads.
        places: `(k,)`, see `moving_places`.
        generator: draws a minibatch.
    """
    beads = torch.cat([ends[:1], inner.detach(), ends[1:]])
    # How much of each place every bead is.
    shares = (1 - (places[:, None] - torch.arange(len(beads))).abs()).clamp_min(0).to(beads)
    points = (shares @ beads).requires_grad_()
    losses = objective.estimate(points, generator)
    trained = _worse(losses, objective.exact_estimate)
    (gradient,) = torch.autograd.grad(trained.sum(), points)
    # A place's gradient is its beads', by their shares: by hand, for on the graph each bead would be copied once more.
    return (shares[:, 1:-1].T / len(trained)) @ gradient, losses.mean().item()


def _worse(losses: Tensor, exact: bool) -> Tensor:
    """The higher half of exact losses: a path is as good as its worst place. All of noisy ones."""
    return losses.topk((len(losses) + 1) // 2).values if exact else losses
