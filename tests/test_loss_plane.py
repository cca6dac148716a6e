"""The plane around a path: its grid, its level set, how far the path is from it."""

import csv
import io

import pytest
import torch

import dss
from dss.page.figures import loss_on_plane, plane_table
from dss.page.figures.style import LossColours
from dss.page.loss_plane import farthest_bead, survey


def shifted(point):
    """A plane in five dimensions that holds the double well's."""
    return torch.nn.functional.pad(torch.as_tensor(point, dtype=torch.float64), (0, 3)) + 2.0


class LiftedWell(dss.Objective):
    """The double well of the first two coordinates, shifted; counts what it is asked."""

    def __init__(self):
        self.evaluations = 0

    def __call__(self, points):
        self.evaluations += len(points)
        return dss.DoubleWell()(points[:, :2] - 2)


def test_a_terrain_is_the_loss_at_its_coordinates_and_refining_repeats_no_look():
    judge, corners = LiftedWell(), [shifted(p) for p in ([-1.0, 0.0], [1.0, 0.0], [0.0, 1.0])]
    grids = list(survey(judge, corners, threshold=0.5, resolution=32))
    assert [len(g.x) for g in grids] == [9, 17, 33] and judge.evaluations == 33 * 33
    last = grids[-1]
    for i, j in [(0, 0), (5, 20), (32, 31)]:
        x, y = 2 * last.x[i].item() - 1, 2 * last.y[j].item()
        assert last.losses[j, i].item() == pytest.approx((x * x - 1) ** 2 + y * y)
    torch.testing.assert_close(grids[0].losses, last.losses[::4, ::4])
    assert [mark[0] for mark in last.marks] == ["A", "B", "C"]
    assert last.marks[1][1:] == pytest.approx((1, 0)) and last.marks[2][1:] == pytest.approx((0.5, 0.5))


def test_the_boundary_of_the_level_set_is_drawn_where_the_loss_is_the_threshold():
    corners = [shifted(p) for p in ([-1.0, 0.0], [1.0, 0.0], [0.0, 1.0])]
    *_, plane = survey(LiftedWell(), corners, threshold=0.5)
    boundary = {trace.name: trace for trace in loss_on_plane(plane).data}["level set, L₀ = 0.5"]
    scale = LossColours.of(plane.losses.flatten(), 0.5)
    assert boundary.contours.start == boundary.contours.end == scale.values(torch.tensor([0.5], dtype=torch.float64))[0]
    *_, below = survey(LiftedWell(), corners, threshold=-1.0, resolution=8)
    assert all("level set" not in (trace.name or "") for trace in loss_on_plane(below).data)
    rows = list(csv.DictReader(io.StringIO(plane_table(below))))
    assert len(rows) == 81 and float(rows[-1]["loss"]) == below.losses[-1, -1].item()


def test_the_trail_says_how_far_the_path_is_from_the_plane():
    beads = torch.stack([shifted(p) for p in ([-1.0, 0.0], [-0.5, 0.6], [0.5, 0.9], [1.0, 0.0])])
    beads[1, 4] += 0.8
    path = dss.Path(beads)
    corners = [beads[0], beads[-1], beads[farthest_bead(dss.Path(beads[[0, 2, 3]])) + 1]]
    *_, plane = survey(LiftedWell(), corners, path=path, resolution=8)
    at_beads = plane.seen.distances[plane.seen.beads]
    assert at_beads.tolist() == pytest.approx([0, 0.4, 0, 0], abs=1e-9)
    assert plane.seen.distances.max() == at_beads.max()


def test_the_farthest_bead_is_the_farthest_and_a_straight_path_has_none():
    assert farthest_bead(dss.Path(torch.tensor([[0.0, 0.0], [0.9, 0.1], [0.2, -0.4], [1.0, 0.0]]))) == 2
    with pytest.raises(dss.InputError, match="no plane"):
        farthest_bead(dss.Path(torch.tensor([[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]])))


@pytest.mark.parametrize("cells", [0, 7, 12])
def test_a_grid_that_cannot_be_nested_is_refused(cells):
    with pytest.raises(dss.InputError, match="8, 16, 32"):
        next(survey(LiftedWell(), [shifted(p) for p in ([0.0, 0.0], [1.0, 0.0], [0.0, 1.0])], resolution=cells))
