"""Constrained dynamic string sampling (Freeman & Bruna 2017, appendix A): beads that move across the string only."""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dss.base.errors import EnclosureError, InputError
from dss.base.limits import Limits, Status
from dss.base.path import Path
from dss.base.renamed import renamed
from dss.certificates.sampling import after_insertion, sample_segments
from dss.finders.descent import Descended, Descent, Projection, descend
from dss.finders.finder import Finder, Step
from dss.finders.target import Target
from dss.objectives.objective import Objective
from dss.objectives.wrappers import Wrapped
from dss.problem import Problem


@renamed(points="grid")
@dataclass(frozen=True)
class ConstrainedString(Finder):
    """Every bead stays on, or near, the hyperplane halfway between its neighbours and across the line that joins them.

    With the neighbours a and b the hyperplane goes through m = (a + b)/2 across n = (a - b)/|a - b|; the paper prints
    a - b for the midpoint, a slip. In the falling form all beads train side by side while a level falls from the
    straight line's largest loss to the threshold, and a bead is inserted wherever a segment exceeds the level; each
    round takes the hyperplanes from the neighbours' places at its start.

    Attributes:
        form: "projection" puts every step back onto the hyperplane; "penalty" adds the paper's two terms,
            `zeta (|a - x| + |b - x|) + kappa |cos angle(n, x - m)|`, to the loss.
        zeta, kappa: weights of the penalty form.
        levels: rounds in which the level falls to the threshold, by equal steps; 0 is the paper's recursion, in which
            only new beads train, straight to their target.
        alpha, margin: a bead's target below the level, see `dss.finders.target`; by default 5 % of the level's size.
        grid: intervals of the grid on which a segment is tested.
        descent: how beads are trained.
        limits: what ends the search.
    """

    name: ClassVar[str] = "constrained"
    form: Literal["projection", "penalty"] = "projection"
    zeta: float = 0.01
    kappa: float = 0.1
    levels: int = 0
    alpha: float | None = None
    margin: float | None = None
    grid: int = 20
    descent: Descent = field(default_factory=Descent)
    limits: Limits = Limits()

    def __post_init__(self):
        if self.form not in ("projection", "penalty"):
            raise InputError(f"form is 'projection' or 'penalty', got {self.form!r}")
        if min(self.zeta, self.kappa, self.levels) < 0:
            raise InputError(f"zeta, kappa and levels are not negative, got {self.zeta}, {self.kappa} and {self.levels}")
        _ = self.target

    def advance(self, problem: Problem, step: Step) -> Step:
        """Judge, insert where the level is exceeded, train."""
        level, maxima, memory = self._judged(problem, step)
        if (maxima <= problem.threshold).all():
            return replace(step, maxima=maxima, status=Status.FOUND)
        failed = torch.nonzero(maxima > level)[:, 0][: self.limits.room(step.path.intermediate_beads)]
        path = step.path.insert(failed, step.path.points(failed, torch.full((len(failed),), 0.5)))
        added = failed + 1 + torch.arange(len(failed))
        rows = torch.arange(1, len(path) - 1) if self.levels else added
        trained = self._trained(problem, path, rows, self.target.below(level), step.round)
        path = path.replace(rows, trained.points)
        maxima = torch.full((len(path) - 1,), torch.nan, dtype=torch.float64) if self.levels else after_insertion(maxima, failed)
        status = Status.SEARCHING if trained.reached.all() else Status.STALLED
        return replace(
            step,
            path=path,
            maxima=maxima,
            status=status,
            gradient_steps=step.gradient_steps + trained.gradient_steps,
            memory=memory,
        )

    @property
    def target(self) -> Target:
        """To which loss beads are trained."""
        return Target(self.alpha, self.margin)

    def _judged(self, problem: Problem, step: Step) -> tuple[float, Tensor, dict]:
        """The level of this round, every segment's largest loss seen, and what to remember: the straight line's peak, for later levels.

        A middle above the level settles its segment, which gets its bead there anyway.
        """
        unknown, memory = step.maxima.isnan(), step.memory
        if self.levels and not memory:
            maxima = self._sampled(problem, step.path, step.maxima, unknown, self.grid)
            memory = {"top": maxima.max().item()}
            return self._level(problem, step.round, memory["top"]), maxima, memory
        level = self._level(problem, step.round, memory["top"]) if self.levels else problem.threshold
        maxima = self._sampled(problem, step.path, step.maxima, unknown, 2)
        return level, self._sampled(problem, step.path, maxima, unknown & (maxima <= level), self.grid), memory

    def _sampled(self, problem: Problem, path: Path, maxima: Tensor, which: Tensor, grid: int) -> Tensor:
        """The maxima `(n - 1,)` with those of the segments in the mask `which` found on a grid."""
        segments = torch.nonzero(which)[:, 0]
        if not len(segments):
            return maxima
        peaks = sample_segments(problem.judge, path, segments, grid=grid, threshold=problem.threshold, refine=grid > 2)
        return maxima.index_copy(0, segments, peaks.losses)

    def _level(self, problem: Problem, round: int, top: float) -> float:
        return top + (problem.threshold - top) * min(1.0, (round + 1) / self.levels)

    def _trained(self, problem: Problem, path: Path, rows: Tensor, target: float, round: int) -> Descended:
        """Beads at `rows` of the path, trained across the string."""
        before, after, beads = path.beads[rows - 1], path.beads[rows + 1], path.beads[rows]
        generator = problem.generator("constrained", round)
        if self.form == "penalty":
            parts = [
                self._descend(problem, Neighboured(problem.objective, a, b, self.zeta, self.kappa), x[None], target, generator)
                for a, b, x in zip(before, after, beads, strict=True)
            ]
            return Descended(
                torch.cat([part.points for part in parts]),
                torch.cat([part.losses for part in parts]),
                torch.cat([part.reached for part in parts]),
                sum(part.gradient_steps for part in parts),
            )
        middle, normal = hyperplanes(before, after)

        def project(points: Tensor, which: Tensor) -> Tensor:
            return onto(points, middle[which], normal[which])

        start = onto(beads, middle, normal)
        return self._descend(problem, problem.objective, start, target, generator, project)

    def _descend(
        self,
        problem: Problem,
        objective: Objective,
        points: Tensor,
        target: float,
        generator: torch.Generator,
        project: Projection | None = None,
    ) -> Descended:
        options = self.descent
        if self.form == "penalty":
            # What such beads train on does not tell when they arrive.
            options = replace(options, check_every=options.interval(objective, problem.judge))
        return descend(objective, problem.judge, points, target, options=options, generator=generator, project=project)


def hyperplanes(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Points and unit normals `(k, p)` of the hyperplanes halfway between a and b, `(k, p)` both."""
    normal = a - b
    return (a + b) / 2, normal / normal.norm(dim=1, keepdim=True).clamp_min(torch.finfo(a.dtype).tiny)


def onto(points: Tensor, middle: Tensor, normal: Tensor) -> Tensor:
    """The nearest points of hyperplanes, all `(k, p)`."""
    return points - ((points - middle) * normal).sum(1, keepdim=True) * normal


class Neighboured(Wrapped):
    """A loss with the paper's penalties for a bead between neighbours a and b `(p,)` (appendix A)."""

    def __init__(self, objective: Objective, a: Tensor, b: Tensor, zeta: float, kappa: float):
        super().__init__(objective)
        self.a, self.b, self.zeta, self.kappa = a, b, zeta, kappa
        middle, normal = hyperplanes(a[None], b[None])
        self.middle, self.normal = middle[0], normal[0]

    def __call__(self, points: Tensor) -> Tensor:
        return self.objective(points) + self.penalty(points)

    def enclose(self, starts: Tensor, ends: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        raise EnclosureError("the penalties of constrained dynamic string sampling are for training, not for judging")

    def apart(self, points: Tensor) -> None:
        return None

    def floor(self, starts: Tensor, ends: Tensor, t: Tensor) -> Tensor:
        raise EnclosureError("the penalties of constrained dynamic string sampling are for training, not for judging")

    def estimate(self, points: Tensor, generator: torch.Generator) -> Tensor:
        return self.objective.estimate(points, generator) + self.penalty(points)

    def penalty(self, points: Tensor) -> Tensor:
        """Penalties `(k,)`; the angle at the middle itself counts as right, with no gradient."""
        away = points - self.middle
        distance = away.norm(dim=1)
        inside = distance > 1e-9 * (self.a - self.b).norm()
        cosine = (away @ self.normal) / torch.where(inside, distance, 1.0)
        stretch = (points - self.a).norm(dim=1) + (points - self.b).norm(dim=1)
        return (self.zeta * stretch + self.kappa * torch.where(inside, cosine.abs(), 0.0)).double()
