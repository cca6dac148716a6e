"""A path that is written down: halves of the networks change places along convex and constant pieces.

One half of the units of every hidden layer keeps what the first end does, the other half what the second end does; in
between, half networks are written into units that nobody reads (which changes no output), and the last layer moves from one
half to the other (along which a convex loss is convex). The largest loss is that of a corner, for every convex loss at once.

Sources: Kuditipudi et al. 2019 (halves of networks stable to dropout); Nguyen, Brechet & Mondelli 2021 (halves
that are fitted, layer after layer). Here the fit is a ridge regression onto the full network's own pre-activations, and the
halves alternate, so that nothing is copied back: 4K - 3 pieces for K layers.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dss.base.adam import Adam
from dss.base.errors import InputError
from dss.base.limits import Limits, Status
from dss.base.path import Path
from dss.finders.descent import Descent
from dss.finders.finder import Finder, Step
from dss.finders.halves import Chain
from dss.finders.residual import Residual, ResidualWriting, has_streams
from dss.finders.writing import Writing
from dss.objectives.network import NetworkObjective
from dss.problem import Problem


def _fast_adam(parameters: list[Tensor]) -> torch.optim.Optimizer:
    """Adam at a rate that suits rows which start from a least-squares fit."""
    return Adam(parameters, lr=1e-2)


@dataclass(frozen=True)
class ConvexPath(Finder):
    """Write a path down whose largest loss is that of its corners, by layer-wise least squares.

    It takes chains of `Linear` and `Conv2d` layers with entrywise activations, pooling, dropout and BatchNorm, and residual
    networks of basic blocks (two layers beside the stream or its projection); it refuses what it cannot take apart (LayerNorm
    over a stream, recurrences, attention). A loss convex in the outputs makes the certificate a proof by convexity.

    Attributes:
        fit: how half networks are made: "least-squares" alone, or "train", which also trains those whose corner lies above
            the threshold.
        ridge: penalty of the regressions, relative to the mean diagonal of their Gram matrix.
        halves: which units keep the first end: "score", those that matter more to it than to the second, or "random".
        samples: of the training data that the regressions read, at most.
        descent: of "train".
        limits: of the search; it takes one round.
    """

    name: ClassVar[str] = "convex"
    fit: Literal["least-squares", "train"] = "least-squares"
    ridge: float = 1e-4
    halves: Literal["score", "random"] = "score"
    samples: int = 2000
    descent: Descent = Descent(optimizer=_fast_adam, max_steps=1000)
    limits: Limits = Limits()

    def __post_init__(self):
        if self.fit not in ("least-squares", "train") or self.halves not in ("score", "random"):
            raise InputError(
                f"fit must be 'least-squares' or 'train' and halves 'score' or 'random', got {self.fit!r} and {self.halves!r}"
            )
        if not self.ridge > 0 or self.samples < 1:
            raise InputError(f"ridge must be above 0 and samples at least 1, got {self.ridge} and {self.samples}")

    def advance(self, problem: Problem, step: Step) -> Step:
        network = problem.objective.unwrapped
        if not isinstance(network, NetworkObjective):
            raise InputError(f"a network is needed to write a path down, got {type(network).__name__}: use another finder")
        if has_streams(network):
            writing = ResidualWriting(self, problem, Residual(network, samples=self.samples))
        else:
            writing = Writing(self, problem, Chain(network, samples=self.samples))
        path = Path(torch.stack(list(writing.beads())))
        losses = writing.losses(path)
        maxima = torch.maximum(losses[:-1], losses[1:])
        status = Status.FOUND if maxima.max() <= problem.threshold else Status.STALLED
        return replace(step, path=path, maxima=maxima, status=status, gradient_steps=step.gradient_steps + writing.steps)
