"""Pull a string that passes tight in short steps, as hard as the loss that is seen on a few samples allows."""

from dataclasses import dataclass
from math import exp

import torch
from torch import Tensor

from dss.base.path import Path
from dss.certificates.progressive import ProgressiveJudge
from dss.finders.segments import AVERAGING, BATCH, moving_places, segment_gradient
from dss.problem import Problem

# A gradient step of a bead, as a share of the distance of the ends. Adam's equal steps in all coordinates would lengthen a string
# at random: this goes along the gradient, whose size a running mean takes out.
STEP, MOMENTUM = 1e-3, 0.9
# Steps between two looks.
EVERY = 10
# The level that is aimed at lies this share of the threshold's size below it: what is seen on few samples is not all.
AIM = 0.03
# How the pull follows the room below that level, in shares of the threshold's size: at once, and for good.
AT_ONCE, FOR_GOOD = 8.0, 1.0
# Share of the way to the middle of its neighbours that a bead goes after a step: at first, and at most.
PULL, HARDEST = 0.01, 0.3


@dataclass(frozen=True, eq=False)
class Taut:
    """The shortest string that passed its looks on the way (the one given, if none did), the pull at the end, and gradient
    steps of all beads together."""

    path: Path
    pull: float
    gradient_steps: int


def tauten(problem: Problem, path: Path, pull: float, gradient_steps: int, generator: torch.Generator) -> Taut:
    """Step down the loss at moving places and pull towards the straight line in turns.

    The pull is set by what looks see, as a proportional-integral controller sets a valve: too low a loss is room to be used.

    Args:
        path: at least three beads; left as it is.
        pull: to begin with.
        gradient_steps: of all beads together; one step of each at least.
        generator: draws the first places, and minibatches.
    """
    ends, inner = path.beads[[0, -1]], path.beads[1:-1].clone()
    mean, descent = inner.clone(), _Descent(problem, inner)
    places = moving_places(descent.objective, len(inner), generator)
    look, best, now, rounds = ProgressiveJudge(problem.judge, problem.threshold, problem.scale), path, pull, 0
    while not rounds or (rounds + 1) * len(inner) <= gradient_steps:
        rounds += 1
        descent.step(ends, next(places), generator)
        _pull(inner, ends, now)
        mean.lerp_(inner, 1 - AVERAGING)
        if rounds % EVERY == 0:
            seen = Path(torch.cat([ends[:1], mean, ends[1:]]))
            room = max(-1.0, (problem.threshold - look.highest(seen)) / problem.scale - AIM)
            if room >= 0 and seen.normalized_length < best.normalized_length:
                best = seen
            pull = min(HARDEST, pull * exp(FOR_GOOD * min(room, 1.0)))
            now = min(HARDEST, max(0.0, pull * (1 + AT_ONCE * room)))
    return Taut(best, pull, rounds * len(inner))


class _Descent:
    """Steps of one length against the gradient, with momentum: the beads' mean gradient norm is divided out."""

    def __init__(self, problem: Problem, inner: Tensor):
        self.objective, self.inner, self.size = problem.objective.with_batches_of(BATCH), inner, 0.0
        self.length = STEP * (problem.end - problem.start).norm(dtype=torch.float64).item()
        # Written out: torch's own optimizers import its compiler, 1.5 s of every process that makes its first one.
        self.velocity = torch.zeros_like(inner)

    def step(self, ends: Tensor, places: Tensor, generator: torch.Generator) -> None:
        gradient, _ = segment_gradient(self.objective, ends, self.inner, places, generator)
        size = gradient.norm(dim=1, dtype=torch.float64).mean().item()
        self.size = AVERAGING * self.size + (1 - AVERAGING) * size if self.size else size
        gradient = gradient.mul_(self.length / self.size) if self.size else gradient
        self.inner.sub_(self.velocity.mul_(MOMENTUM).add_(gradient))


def _pull(inner: Tensor, ends: Tensor, share: float) -> None:
    beads = torch.cat([ends[:1], inner, ends[1:]])
    inner.lerp_((beads[:-2] + beads[2:]) / 2, share)
