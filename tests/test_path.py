"""A path's geometry against closed forms and naive loops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dss


def square() -> dss.Path:
    return dss.Path(torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]))


def random_path(n: int, seed: int) -> dss.Path:
    return dss.Path(torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def test_lengths_of_three_sides_of_a_square():
    path = square()
    assert path.length() == 3 and path.normalized_length == 3 and path.intermediate_beads == 2
    assert path.arc_lengths().tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert path.normalized_length_over(torch.tensor([False, True])) == 1


def test_lengths_are_summed_in_double_precision():
    beads = torch.tensor([[1e4], [1e4 + 2**-10], [1e4 + 2**-9]], dtype=torch.float32)
    assert dss.Path(beads).length() == 2**-9


@given(st.integers(2, 6), st.integers(0, 100))
def test_points_interpolate_and_hit_the_beads_exactly(n, seed):
    path = random_path(n, seed)
    segments = torch.arange(n - 1)
    assert torch.equal(path.points(segments, torch.zeros(n - 1)), path.beads[:-1])
    assert torch.equal(path.points(segments, torch.ones(n - 1)), path.beads[1:])
    middle = path.points(segments, torch.full((n - 1,), 0.5))
    assert torch.allclose(middle, (path.beads[:-1] + path.beads[1:]) / 2)


@given(st.integers(2, 6), st.integers(0, 100), st.integers(2, 12))
def test_resampling_keeps_the_ends_and_never_lengthens(n, seed, m):
    path = random_path(n, seed)
    again = path.resample(m)
    assert len(again) == m and torch.equal(again.beads[[0, -1]], path.beads[[0, -1]])
    assert again.length() <= path.length() * (1 + 1e-12)


def test_resampling_goes_by_arc_length():
    again = square().resample(7)
    assert torch.allclose(again.segment_lengths(), torch.full((6,), 0.5, dtype=torch.float64))


def test_insertion_puts_each_bead_into_its_segment():
    path = square().insert(torch.tensor([0, 2]), torch.tensor([[0.5, 0.1], [0.5, 0.9]]))
    assert path.beads[:, 0].tolist() == [0, 0.5, 1, 1, 0.5, 0]
    assert square().beads.shape == (4, 2)


def test_replacing_leaves_the_original_alone():
    path = square()
    changed = path.replace(torch.tensor([1]), torch.tensor([[2.0, 0.0]]))
    assert changed.beads[1, 0] == 2 and path.beads[1, 0] == 1


@pytest.mark.parametrize(
    "beads", [torch.zeros(1, 2), torch.zeros(3), torch.zeros(2, 2, dtype=torch.long), torch.full((2, 2), float("nan"))]
)
def test_what_is_no_path_is_refused(beads):
    with pytest.raises(dss.InputError, match="a path needs"):
        dss.Path(beads)


def test_a_path_may_lie_elsewhere_in_part():
    whole = dss.Path(torch.randn(4, 3))
    rows = [row if i % 2 else torch.empty_like(row, device="meta") for i, row in enumerate(whole.rows)]
    part = dss.Path.partial(rows, whole.digests)
    assert whole.whole and not part.whole and part.digests == whole.digests and (len(part), part.size) == (4, 3)
    moved = part.to(torch.device("cpu"))
    assert moved is part and whole.to(torch.device("cpu")) is whole
    assert whole.to(torch.device("meta")).digests == whole.digests
    with pytest.raises(NotImplementedError, match="meta"):
        part.rows[0].tolist()
