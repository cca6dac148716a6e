"""The loss on the sheet between the straight line and a path: the ruled surface that joins them, unrolled."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dss.base.chunks import distance
from dss.base.path import Path
from dss.objectives.objective import Objective
from dss.page.profile import in_pieces

# How far the sheet goes on beyond the line and beyond the path, as a share of their distance.
BEYOND = 0.25
# Intervals along path and line, at least.
FEWEST = 16


@dataclass(frozen=True, eq=False)
class LossSheet:
    """Losses on a sheet, by places along (shares of the length, of the path and of the line) and across (0 the line, 1 the path).

    Attributes:
        along: `(c,)` from 0 (A) to 1 (B).
        across: `(r,)`; 0 and 1 are among them.
        losses: `(r, c)` float64. The row at 1 *is* the path, the row at 0 the straight line.
        beads: `(n,)` where along the path its beads are.
        widest: the largest distance between path and line at the same place, in units of the distance of A and B.
        threshold: L0.
        description: the loss, and on which data.
    """

    along: Tensor
    across: Tensor
    losses: Tensor
    beads: Tensor
    widest: float
    threshold: float
    description: str


def unroll(judge: Objective, path: Path, *, threshold: float, resolution: int = 16) -> LossSheet:
    """Evaluate the loss on the sheet S(s, u) = (1 - u) L(s) + u P(s), where P and L run along path and straight line, s being the
    share of their length that is covered.

    Args:
        judge: the loss.
        path: P.
        threshold: L0.
        resolution: intervals from the line to the path are half of it, those along them half as many again as it says, at
            least 16; a bead takes the place of one that it is near.
    """
    arcs, half = path.arc_lengths().cpu(), max(2, resolution // 2)
    even = torch.linspace(0, 1, max(FEWEST, 3 * resolution // 2) + 1, dtype=torch.float64)
    # Beads of a long string lie as close as the even places do.
    along = _with_beads(even, arcs) if len(path) <= resolution else even
    across = torch.arange(-round(BEYOND * half), half + round(BEYOND * half) + 1, dtype=torch.float64) / half
    on_path, on_line = _following(path, along), _following(Path.straight(path.rows[0], path.rows[-1]), along)

    def sheet(places: Tensor) -> Tensor:
        row, column = places // len(along), places % len(along)
        return torch.lerp(on_line(column), on_path(column), across[row].to(path.rows[0])[:, None])

    count = len(across) * len(along)
    losses = in_pieces(judge, sheet, torch.arange(count), path.rows[0].nbytes).reshape(len(across), len(along))
    return LossSheet(along, across, losses, arcs, _widest(path, on_path, on_line, len(along)), threshold, judge.description)


def _with_beads(even: Tensor, arcs: Tensor) -> Tensor:
    """Places at equal steps, but for those that are nearer to a bead than half a step, and all beads."""
    far = (even[:, None] - arcs).abs().amin(1) > (even[1] - even[0]) / 2
    return torch.cat([even[far], arcs]).unique()


def _following(path: Path, along: Tensor):
    """Points `(k, p)` of a path at the places `along[index]`."""
    arcs = path.arc_lengths().cpu()
    segments = torch.searchsorted(arcs, along, right=True).sub(1).clamp(0, len(path) - 2)
    spans = (arcs[segments + 1] - arcs[segments]).clamp_min(torch.finfo(torch.float64).tiny)
    t = ((along - arcs[segments]) / spans).clamp(0, 1)
    return lambda index: path.points(segments[index], t[index])


def _widest(path: Path, on_path, on_line, count: int) -> float:
    ends = distance(path.rows[0], path.rows[-1]).item()
    places = torch.arange(count).split(1)
    return max(distance(on_path(i)[0], on_line(i)[0]).item() for i in places) / ends
