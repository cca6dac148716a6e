"""The driver: it proves what is true, refutes with the point, and never says proven when it stopped early."""

import math

import pytest
import torch

from dss.base.errors import EnclosureError, InputError, NotFinite
from dss.certificates.bracket import Verdict
from dss.certificates.proof import prove
from dss.objectives.objective import Objective

F64 = torch.float64


class Bowl(Objective):
    """|x|^2, enclosed exactly: it is convex along a segment, so its ends bound a cell; `loose` adds an error h^2."""

    def __init__(self, loose=0.0):
        self.loose, self.calls = loose, 0

    def __call__(self, points):
        return (points.double() ** 2).sum(1)

    def enclose(self, starts, ends, lower, upper):
        self.calls += 1
        sides = (starts + t[:, None] * (ends - starts) for t in (lower, upper))
        return torch.stack([self(side) for side in sides], 1) + self.loose * (upper - lower)[:, None] ** 2


class Spike(Bowl):
    """A flat loss of 1 with a spike of height 2 and width 1e-3 at one place of the first coordinate."""

    at, width = 0.123456, 1e-3

    def __call__(self, points):
        return 1 + 2 * (1 - (points[:, 0].double() - self.at).abs() / self.width).clamp(min=0)

    def enclose(self, starts, ends, lower, upper):
        a, b = (starts[:, 0] + t * (ends - starts)[:, 0] for t in (lower, upper))
        low, high = torch.minimum(a, b), torch.maximum(a, b)
        nearest = torch.full_like(low, self.at).clamp(low, high)
        return self(nearest[:, None])[:, None].expand(-1, 2)


LINE = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=F64)
CORNER = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], dtype=F64)


def last(*args, **options):
    *_, bracket = prove(*args, **options)
    return bracket


class Floored(Bowl):
    """One whose lower side is known as well: `floor` is asked for it."""

    asked = 0

    def floor(self, starts, ends, t):
        self.asked += 1
        return self(starts + t[:, None] * (ends - starts))


def test_the_lower_side_is_proved_for_a_tolerance_and_costs_a_threshold_nothing():
    judge = Floored()
    assert last(judge, CORNER, threshold=2.01).lower == -math.inf and judge.asked == 0
    assert last(judge, CORNER, tolerance=0.01).lower == 2.0 and judge.asked == 1


@pytest.mark.parametrize("loose", [0.0, 3.0, 1e4])
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_a_true_threshold_is_proven(loose, batch):
    bracket = last(Bowl(loose), CORNER, threshold=2.01, batch_cells=batch)
    assert bracket.verdict is Verdict.PROVEN and bracket.proven
    assert 2.0 <= bracket.upper <= 2.01 and bracket.seen == 2.0 and (bracket.segment, bracket.t) in {(0, 1.0), (1, 0.0)}


@pytest.mark.parametrize("threshold", [0.99, 0.5, -1.0])
def test_a_false_threshold_is_refuted_with_the_point(threshold):
    bracket = last(Bowl(1.0), LINE, threshold=threshold)
    assert bracket.verdict is Verdict.REFUTED and not bracket.proven
    point = LINE[bracket.segment] + bracket.t * (LINE[bracket.segment + 1] - LINE[bracket.segment])
    assert Bowl()(point[None]).item() == bracket.seen > threshold


def test_a_spike_between_the_samples_of_a_grid_is_found():
    grid = torch.lerp(LINE[:1], LINE[1:], torch.linspace(0, 1, 41, dtype=F64)[:, None])
    assert Spike()(grid).max() == 1.0
    bracket = last(Spike(), LINE, threshold=2.0)
    assert bracket.verdict is Verdict.REFUTED and bracket.seen > 2.0
    assert abs(-1 + 2 * bracket.t - Spike.at) < Spike.width


def test_a_threshold_over_the_spike_is_proven():
    assert last(Spike(), LINE, threshold=3.0).proven


@pytest.mark.parametrize("tolerance", [0.3, 1e-2, 1e-5])
def test_a_tolerance_brackets_the_largest_loss(tolerance):
    bracket = last(Spike(), LINE, tolerance=tolerance)
    assert bracket.verdict is Verdict.BRACKETED and not bracket.proven
    assert bracket.seen <= 3.0 <= bracket.upper and bracket.width <= tolerance * bracket.seen


@pytest.mark.parametrize(("limits", "verdict"), [({"max_cells": 5}, Verdict.CELLS), ({"max_seconds": 0.0}, Verdict.SECONDS)])
def test_a_limit_is_named_and_never_proves(limits, verdict):
    brackets = list(prove(Bowl(1e6), CORNER, threshold=2.001, batch_cells=1, **limits))
    assert brackets[-1].verdict is verdict and not any(bracket.proven for bracket in brackets)
    assert brackets[-1].upper > 2.001


def test_a_bound_that_never_closes_ends_at_the_resolution():
    class Stuck(Bowl):
        def enclose(self, starts, ends, lower, upper):
            return super().enclose(starts, ends, lower, upper) + 1.0

    bracket = last(Stuck(), LINE, threshold=1.5, batch_cells=1, max_cells=10_000)
    assert bracket.verdict is Verdict.RESOLUTION and not bracket.proven


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_bound_that_is_no_number_proves_nothing(bad):
    class Blind(Bowl):
        def enclose(self, starts, ends, lower, upper):
            return super().enclose(starts, ends, lower, upper) * bad

    bracket = last(Blind(), CORNER, threshold=5.0, max_cells=100)
    assert bracket.verdict is Verdict.CELLS and bracket.upper == math.inf


def test_a_loss_that_is_no_number_refutes():
    class Broken(Bowl):
        def __call__(self, points):
            return super().__call__(points) * torch.where(points[:, 0].abs() < 1e-9, math.nan, 1.0)

    bracket = last(Broken(3.0), LINE, threshold=1.2)
    assert bracket.verdict is Verdict.REFUTED and bracket.seen == math.inf and bracket.t == 0.5


def test_brackets_only_tighten_and_their_stairs_cover_the_path():
    previous = None
    for bracket in prove(Bowl(50.0), CORNER, threshold=2.05, batch_cells=2):
        assert previous is None or (bracket.upper <= previous.upper and bracket.seen >= previous.seen)
        bounds, previous = bracket.bounds, bracket
        assert bracket.upper == bounds[:, 3].max()
        for segment in (0, 1):
            own = bounds[bounds[:, 0] == segment]
            assert own[0, 1] == 0 and own[-1, 2] == 1 and torch.equal(own[1:, 1], own[:-1, 2])
    t = (bounds[:, 1] + bounds[:, 2]) / 2
    index = bounds[:, 0].long()
    points = CORNER[index] + t[:, None] * (CORNER[index + 1] - CORNER[index])
    assert (Bowl()(points) <= bounds[:, 3]).all()


def test_time_is_kept_cell_by_cell_and_parts_that_wait_keep_the_bound_of_the_whole(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("dss.certificates.proof.time.monotonic", lambda: now[0])

    class Slow(Bowl):
        def enclose(self, starts, ends, lower, upper):
            now[0] += len(starts)
            return super().enclose(starts, ends, lower, upper)

    brackets = list(prove(Slow(1e4), CORNER, threshold=2.05, max_seconds=11.5))
    assert brackets[-1].verdict is Verdict.SECONDS and brackets[-1].cells == 12
    assert brackets[-1].upper == 1e4 + 2 and (brackets[-1].bounds[:, 3] < 1e4 / 16**2 + 2.1).sum() == 10
    for bracket in brackets:
        for segment in (0, 1):
            own = bracket.bounds[bracket.bounds[:, 0] == segment]
            assert own[0, 1] == 0 and own[-1, 2] == 1 and torch.equal(own[1:, 1], own[:-1, 2])


def test_hopeless_cells_are_cut_into_many_parts():
    counts = [len(bracket.bounds) for bracket in prove(Bowl(1e6), LINE, threshold=1.01)]
    assert counts[:3] == [1, 1, 16]


class Large(Bowl):
    """A bowl on much data, of which a part is as loose as `part_loose`; its cells are counted."""

    samples = 4096

    def __init__(self, loose, part_loose):
        super().__init__(loose)
        self.part_loose, self.cells, self.asked = part_loose, 0, None

    def part(self, samples):
        self.asked = samples
        return Bowl(self.part_loose)

    def enclose(self, starts, ends, lower, upper):
        self.cells += len(starts)
        return super().enclose(starts, ends, lower, upper)


@pytest.mark.parametrize(("part_loose", "most"), [(50.0, 0.8), (0.0, 1.0), (150.0, 2.0)])
def test_cells_are_tried_on_a_part_of_large_data_first_and_proved_on_the_whole(part_loose, most):
    plain = last(Bowl(50.0), CORNER, threshold=2.05)
    judge = Large(50.0, part_loose)
    brackets = list(prove(judge, CORNER, threshold=2.05))
    assert (
        brackets[-1].verdict is Verdict.PROVEN and judge.asked == 64 and brackets[-1].cells == judge.cells <= most * plain.cells
    )
    for bracket in brackets:
        for segment in (0, 1):
            own = bracket.bounds[bracket.bounds[:, 0] == segment]
            assert own[0, 1] == 0 and own[-1, 2] == 1 and torch.equal(own[1:, 1], own[:-1, 2])
    cells = brackets[-1].bounds
    assert (cells[:, 3] >= 50.0 * (cells[:, 2] - cells[:, 1]) ** 2).all(), "bounds come from the whole data"


def test_a_part_that_is_hopeless_ends_at_the_limits_and_proves_nothing():
    judge = Large(0.0, math.inf)
    bracket = last(judge, CORNER, threshold=2.05, max_cells=500)
    assert bracket.verdict is Verdict.CELLS and not bracket.proven and judge.cells == 0 and bracket.upper == math.inf


def test_a_try_looks_at_the_whole_data_and_refutes():
    judge = Large(0.0, 0.0)
    bracket = last(judge, torch.tensor([[0.5, 0.0], [-2.5, 0.0], [0.5, 0.0]], dtype=F64), threshold=1.0)
    assert bracket.verdict is Verdict.REFUTED and bracket.seen == 6.25


def test_cells_are_split_where_the_bound_is_worst():
    beads = torch.tensor([[0.0], [0.1], [1.0]], dtype=F64)
    bracket = last(Bowl(0.5), beads, threshold=1.01)
    counts = torch.bincount(bracket.bounds[:, 0].long())
    assert counts[0] == 1 < counts[1]


def test_a_path_that_stands_still_is_proven_at_once():
    assert last(Bowl(), LINE[:1].repeat(4, 1), threshold=1.0).cells == 3


def test_float32_beads_are_taken_as_stored():
    assert last(Bowl(1.0), CORNER.float(), threshold=2.01).proven


@pytest.mark.parametrize(
    "options",
    [{}, {"threshold": 1.0, "tolerance": 0.1}, {"threshold": math.nan}, {"tolerance": 0.0}, {"tolerance": math.inf},
     {"threshold": 1.0, "max_cells": 0}, {"threshold": 1.0, "batch_cells": 0}],
)  # fmt: skip
def test_bad_options_are_refused(options):
    with pytest.raises(InputError):
        next(prove(Bowl(), LINE, **options))


@pytest.mark.parametrize("beads", [LINE[:1], LINE[0], LINE.long()])
def test_bad_beads_are_refused(beads):
    with pytest.raises(InputError, match="beads"):
        next(prove(Bowl(), beads, threshold=1.0))


def test_beads_that_are_not_finite_are_refused():
    with pytest.raises(NotFinite, match="finite beads"):
        next(prove(Bowl(), torch.stack([LINE[0], LINE[1] * math.nan]), threshold=1.0))


def test_a_loss_that_is_no_number_refutes_a_threshold_and_is_nothing_to_bracket():
    class Hole(Bowl):
        def __call__(self, points):
            return torch.where(points[:, 0] == 0, math.nan, super().__call__(points))

    assert last(Hole(0.5), LINE, threshold=1.2).verdict is Verdict.REFUTED
    with pytest.raises(NotFinite, match="not finite"):
        last(Hole(0.5), LINE, tolerance=1e-9)


def test_an_objective_without_enclosure_says_so():
    class Plain(Objective):
        def __call__(self, points):
            return points.double().sum(1)

    with pytest.raises(EnclosureError, match="Plain"):
        list(prove(Plain(), LINE, threshold=10.0))
