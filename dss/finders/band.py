"""An elastic band with automatic insertion (AutoNEB; Draxler et al. 2018, after Kolsbjerg et al. 2016)."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.base.limits import Limits, Status
from dss.base.path import Path
from dss.base.renamed import renamed
from dss.certificates.sampling import Peaks, after_insertion, sample_segments
from dss.finders.descent import Descent
from dss.finders.finder import Finder, Step
from dss.problem import Problem


@renamed(points="grid")
@dataclass(frozen=True)
class ElasticBand(Finder):
    """Beads slide downhill across the string, and are spread evenly along it after every step.

    Even spreading takes the place of springs, as in the limit of stiff ones (Draxler et al. 2018, section 3.1). The
    tangent is the improved one of Henkelman & Jonsson (2000, eqs. 8-11). A climbing bead (Henkelman, Uberuaga &
    Jonsson 2000, eq. 5) goes up along the tangent to the saddle and is not moved by the spreading. Every `cycle`
    steps the segments are judged, and if one fails a bead is inserted where the profile is worst.

    Attributes:
        beads: intermediate beads of the first band.
        cycle: steps between two insertions.
        climb: whether the highest bead climbs.
        grid: intervals of the grid on which a segment is tested.
        descent: the optimizer and the clipping of gradients; its limit on steps is not used.
        limits: what ends the search.
    """

    name: ClassVar[str] = "band"
    beads: int = 3
    cycle: int = 50
    climb: bool = False
    grid: int = 20
    descent: Descent = field(default_factory=Descent)
    limits: Limits = Limits()

    def __post_init__(self):
        if min(self.beads, self.cycle) < 1:
            raise InputError(f"beads and cycle are at least 1, got {self.beads} and {self.cycle}")

    def advance(self, problem: Problem, step: Step) -> Step:
        """One cycle: relax the band, judge it, insert where it is worst."""
        path = step.path if len(step.path) > 2 else _first_band(problem, step, self)
        if path is None:
            return replace(step, maxima=_peaks(problem, step.path, self.grid).losses, status=Status.FOUND)
        path = relax(problem, path, self, ("band", step.round))
        peaks = _peaks(problem, path, self.grid)
        gradient_steps = step.gradient_steps + self.cycle * path.intermediate_beads
        if (peaks.losses <= problem.threshold).all():
            return replace(step, path=path, maxima=peaks.losses, status=Status.FOUND, gradient_steps=gradient_steps)
        worst = peaks.losses.argmax()[None][: self.limits.room(path.intermediate_beads)]
        longer = path.insert(worst, path.points(worst, peaks.t[worst]))
        return replace(step, path=longer, maxima=after_insertion(peaks.losses, worst), gradient_steps=gradient_steps)


def relax(problem: Problem, path: Path, band: ElasticBand, key: tuple) -> Path:
    """`band.cycle` steps of the optimizer with the band's forces, spread evenly after each."""
    generator = problem.generator(*key)
    beads = path.beads.clone()
    inner = beads[1:-1].clone().requires_grad_()
    optimizer = band.descent.optimizer([inner])
    ends = torch.tensor([problem.loss_start, problem.loss_end], dtype=torch.float64)
    for _ in range(band.cycle):
        losses = problem.objective.estimate(inner, generator)
        (gradient,) = torch.autograd.grad(losses.sum(), inner)
        beads[1:-1] = inner.detach()
        profile = torch.cat([ends[:1], losses.detach().double().cpu(), ends[1:]])
        inner.grad = _clipped(downhill(beads, profile, gradient, climb=band.climb), band.descent.clip_norm)
        optimizer.step()
        beads[1:-1] = inner.detach()
        beads = spread(beads, int(profile[1:-1].argmax()) + 1 if band.climb else None)
        with torch.no_grad():
            inner.copy_(beads[1:-1])
    return Path(beads)


def tangents(beads: Tensor, profile: Tensor) -> Tensor:
    """Unit tangents `(n - 2, p)` at the inner beads `(n, p)`, towards the higher neighbour.

    Henkelman & Jonsson 2000: eq. 8 on slopes, eqs. 10-11 at extrema of the losses `(n,)`.
    """
    ahead, behind = beads[2:] - beads[1:-1], beads[1:-1] - beads[:-2]
    up, down = profile[2:] - profile[1:-1], profile[1:-1] - profile[:-2]
    larger, smaller = torch.maximum(up.abs(), down.abs()), torch.minimum(up.abs(), down.abs())
    rising, falling = (up > 0) & (down > 0), (up < 0) & (down < 0)
    higher_ahead = profile[2:] > profile[:-2]
    weight_ahead = torch.where(higher_ahead, larger, smaller)
    weight_behind = torch.where(higher_ahead, smaller, larger)
    weight_ahead = torch.where(rising, 1.0, torch.where(falling, 0.0, weight_ahead))
    weight_behind = torch.where(rising, 0.0, torch.where(falling, 1.0, weight_behind))
    flat = (weight_ahead == 0) & (weight_behind == 0)
    weight_ahead, weight_behind = (torch.where(flat, 1.0, weight) for weight in (weight_ahead, weight_behind))
    most = torch.maximum(weight_ahead, weight_behind)  # differences of losses may be too small to be squared
    weight_ahead, weight_behind = weight_ahead / most, weight_behind / most
    tangent = weight_ahead.to(beads)[:, None] * ahead + weight_behind.to(beads)[:, None] * behind
    return tangent / tangent.norm(dim=1, keepdim=True).clamp_min(torch.finfo(beads.dtype).tiny)


def downhill(beads: Tensor, profile: Tensor, gradient: Tensor, *, climb: bool) -> Tensor:
    """The inner beads' gradients `(n - 2, p)` without their part along the string; the climber's is reversed there."""
    tangent = tangents(beads, profile)
    along = (gradient * tangent).sum(1, keepdim=True) * tangent
    parts = torch.ones(len(gradient), 1, dtype=gradient.dtype, device=gradient.device)
    if climb:
        parts[profile[1:-1].argmax()] = 2
    return gradient - parts * along


def spread(beads: Tensor, fixed: int | None = None) -> Tensor:
    """The beads at equal distances along their string; with `fixed`, on either side of that bead, which stays."""
    if fixed is None:
        return Path(beads).resample(len(beads)).beads
    left, right = Path(beads[: fixed + 1]), Path(beads[fixed:])
    return torch.cat([left.resample(len(left)).beads, right.resample(len(right)).beads[1:]])


def _clipped(gradient: Tensor, largest: float | None) -> Tensor:
    if largest is None:
        return gradient
    return gradient * (largest / gradient.norm(dim=1, keepdim=True).clamp_min(largest))


def _first_band(problem: Problem, step: Step, band: ElasticBand) -> Path | None:
    """The first band, on the straight line; None if the line itself passes."""
    if _peaks(problem, step.path, band.grid).losses.item() <= problem.threshold:
        return None
    return step.path.resample(2 + min(band.beads, band.limits.beads or band.beads))


def _peaks(problem: Problem, path: Path, grid: int) -> Peaks:
    return sample_segments(problem.judge, path, grid=grid, threshold=problem.threshold)
