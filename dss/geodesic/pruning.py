"""Beads that a path no longer needs."""

import torch
from torch import Tensor

from dss.base.gradients import with_gradients
from dss.base.path import Path
from dss.base.renamed import renamed
from dss.certificates.certificate import certify
from dss.certificates.sampling import sample_segments
from dss.objectives.objective import Objective


@renamed(points="grid")
@with_gradients()
def prune(judge: Objective, path: Path, *, threshold: float, grid: int = 20) -> Path:
    """Remove every intermediate bead without which the path still passes; it only gets shorter.

    Beads that deviate least from the line between their neighbours are tried first.
    """
    kept = list(range(len(path)))
    for index in sorted(range(1, len(path) - 1), key=lambda i: _detour(path.beads[i - 1 : i + 2])):
        place = kept.index(index)
        bridge = Path(path.beads[[kept[place - 1], kept[place + 1]]])
        if _passes(judge, bridge, threshold, grid):
            kept.remove(index)
    return Path(path.beads[kept])


def _passes(judge: Objective, bridge: Path, threshold: float, grid: int) -> bool:
    """Whether one segment's certificate passes; a few evaluations often settle that it does not."""
    few = sample_segments(judge, bridge, torch.arange(1), grid=4, refine=False)
    return few.losses.item() <= threshold and certify(judge, bridge, threshold=threshold, grid=2 * grid).passed


def _detour(beads: Tensor) -> float:
    """How much longer the way over the middle of three beads is than the line between the outer ones."""
    a, b, c = beads.double()
    return ((b - a).norm() + (c - b).norm() - (c - a).norm()).item()
