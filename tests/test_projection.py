"""Principal axes and planes against scikit-learn, plain least squares and closed forms."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from dss.base.errors import InputError
from dss.page import projection
from dss.page.projection import Projection


def cloud(n, p, seed=0):
    return torch.randn(n, p, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 3


@pytest.mark.parametrize("n, p", [(7, 40), (30, 5)])
def test_principal_axes_agree_with_scikit_learn(n, p):
    points = cloud(n, p)
    ours, theirs = Projection.principal(points), PCA(3, svd_solver="full").fit(points.numpy())
    torch.testing.assert_close(ours.explained, torch.tensor(theirs.explained_variance_ratio_))
    torch.testing.assert_close(ours.project(points).abs(), torch.tensor(theirs.transform(points.numpy())).abs())


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 9), st.integers(1, 12), st.integers(0, 10**6))
def test_axes_are_orthonormal_or_zero_and_point_forward(n, p, seed):
    points = cloud(n, p, seed)
    view = Projection.principal(points)
    used = view.axes.norm(dim=1) > 0
    assert used.sum() == min(3, p, n - 1) and (view.explained > 0).sum() == used.sum()
    torch.testing.assert_close(view.axes @ view.axes.T, torch.diag(used.double()))
    coordinates = view.project(points)
    assert (coordinates[-1] >= coordinates[0] - 1e-9).all()


def test_points_in_three_dimensions_are_seen_without_loss_of_distance():
    points = cloud(8, 3) @ torch.linalg.qr(cloud(20, 3, 1)).Q.T
    view = Projection.principal(points)
    torch.testing.assert_close(torch.cdist(view.project(points), view.project(points)), torch.cdist(points, points))
    torch.testing.assert_close(view.lift(view.project(points)), points)
    assert view.distances(points).max() < 1e-9 and view.explained.sum() == pytest.approx(1)


def test_working_in_small_chunks_changes_nothing(monkeypatch):
    points = cloud(9, 50)
    whole = Projection.principal(points)
    monkeypatch.setattr(projection, "CHUNK_BYTES", 200)
    pieces = Projection.principal(points)
    torch.testing.assert_close(pieces.axes, whole.axes)
    torch.testing.assert_close(pieces.project(points), whole.project(points))
    torch.testing.assert_close(pieces.distances(points), whole.distances(points))


def test_a_plane_holds_its_three_points_where_geometry_puts_them():
    a, b, c = cloud(3, 11).float()
    plane = Projection.plane(a, b, c)
    coordinates = plane.project(torch.stack([a, b, c]))
    angle = torch.nn.functional.cosine_similarity((b - a).double(), (c - a).double(), dim=0).arccos()
    far, near = (c - a).double().norm(), (b - a).double().norm()
    expected = torch.stack([near * 0, near * 0, near, near * 0, far * angle.cos(), far * angle.sin()]).view(3, 2)
    torch.testing.assert_close(coordinates, expected)
    assert plane.distances(torch.stack([a, b, c])).max() < 1e-6


def test_distance_from_a_plane_is_the_residual_of_least_squares():
    a, b, c, x = cloud(4, 9)
    basis = torch.stack([b - a, c - a], 1)
    residual = (x - a) - basis @ torch.linalg.lstsq(basis, (x - a)[:, None]).solution[:, 0]
    assert Projection.plane(a, b, c).distances(x[None]).item() == pytest.approx(residual.norm().item())


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_three_points_on_a_line_make_no_plane(t):
    a, b = cloud(2, 6)
    with pytest.raises(InputError, match="not on one line"):
        Projection.plane(a, b, torch.lerp(a, b, t))


@pytest.mark.parametrize("points", [torch.ones(4, 3), torch.ones(1, 3), torch.ones(3)])
def test_points_without_extent_have_no_axes(points):
    with pytest.raises(InputError, match="principal axes need"):
        Projection.principal(points)
