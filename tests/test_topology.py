"""Merge trees on landscapes whose saddles are known, and on planted truths."""

from math import inf

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from test_topology_closure import ultrametric

import dss
from dss.page.figures.tree import component_counts
from dss.page.figures.tree_tables import matrix_table, merges_table
from dss.theory import disconnection_threshold
from dss.topology import MinimaxString, Searched
from dss.topology.growth import grow

MINIMA = torch.tensor(dss.MuellerBrown.minima, dtype=torch.float64)
ADAM = dss.Descent(lambda p: torch.optim.Adam(p, lr=0.02))
BAND = dss.ElasticBand(climb=True, descent=ADAM, limits=dss.Limits(rounds=8))


class Table(dss.Objective):
    """Points are their own index; a path's loss is read off a table, by a search that knows it."""

    def __init__(self, truth):
        self.truth = truth
        self.description = "table"

    def __call__(self, points):
        index = points[:, 0].round().long()
        losses = self.truth.diagonal()[index.clamp(0, len(self.truth) - 1)]
        return torch.where((points[:, 0] - index).abs() < 1e-9, losses, 100.0)


def planted(truth, **options):
    """The tree that grows where every search finds the truth, proved or not."""
    count = len(truth)
    points = torch.arange(count, dtype=torch.float64)[:, None]
    proven = options.pop("proven", True)
    asked = []

    def run(jobs):
        for job in jobs:
            asked.append(job.pair)
            value = truth[job.pair].item()
            path = dss.Path(points[list(job.pair)])
            yield Searched(job.pair, path, value, value, proven, job.goal, "planted", "oracle", 0.0, 0, 0)

    lines = [100.0] * (count * (count - 1) // 2)
    return grow(Table(truth), points, lines, run, **options), asked


class Walls(dss.Obstruction):
    """An obstruction that knows the truth."""

    separation = _accepts = _why = _same = None  # of networks' heads, which a table has not

    def __init__(self, truth, known):
        self.truth, self.known = truth, known

    def between(self, objective, start, end):
        i, j = int(start[0]), int(end[0])
        return dss.Wall(self.truth[i, j].item() if self.known[i, j] else -inf, "planted")


def test_mueller_and_brown_have_their_known_saddles():
    tree = dss.merge_tree(dss.MuellerBrown(), MINIMA, search=BAND)
    low, high = tree.merges
    assert (low.height, high.height) == pytest.approx(
        (dss.MuellerBrown.saddle_values[1], dss.MuellerBrown.saddle_values[0]), abs=0.02
    )
    assert (low.dead, low.survivor, high.dead, high.survivor) == (2, 1, 1, 0)
    assert low.persistence == pytest.approx(low.height - dss.MuellerBrown.minimum_values[2])
    assert len(tree.searches) == 2 and not low.proven and [m.dead for m in tree.candidates] == [2, 1]
    assert [tree.components(t)[1] for t in (-150, -120, -100, -75, -60, 0)] == [0, 1, 2, 3, 2, 1]
    assert [tree.components(t)[0] for t in (-150, 0)] == [0, 1]
    assert tree.components_in_words(0) == "1 component, sampled"
    assert "between 1 (proved) and 2 (sampled)" in tree.components_in_words(-60)


def test_the_default_search_finds_saddles_too():
    double = dss.merge_tree(dss.DoubleWell(), torch.tensor(dss.DoubleWell.minima, dtype=torch.float64))
    assert double.merges[0].height == pytest.approx(dss.DoubleWell.saddle_value, abs=1e-6)
    ring = dss.merge_tree(dss.Ring(), torch.tensor(dss.Ring.minima, dtype=torch.float64))
    assert ring.merges[0].height < 0.01 < ring.straight[0, 1]


def test_a_convex_bowl_needs_no_search():
    points = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tree = dss.merge_tree(dss.Quadratic(), points, prove="never")
    assert tree.searches == () and torch.equal(tree.upper, torch.maximum(tree.births[:, None], tree.births))
    assert tree.components(tree.births.max().item()) == (1, 1)


def test_witness_paths_stay_at_their_value():
    tree = dss.merge_tree(dss.MuellerBrown(), MINIMA, search=BAND)
    for i in range(3):
        for j in range(3):
            path = tree.path(i, j)
            assert torch.equal(path.beads[[0, -1]], MINIMA[[i, j]])
            assert dss.certify(dss.MuellerBrown(), path, threshold=tree.upper[i, j].item() + 1e-9).passed
    with pytest.raises(dss.InputError, match="numbered 0 to 2"):
        tree.path(0, 3)


@given(st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_where_searches_find_the_truth_the_tree_is_the_truth(seed):
    truth = ultrametric(seed, 7)
    tree, asked = planted(truth, pairs="all")
    assert torch.equal(tree.upper, truth) and len(asked) == 21
    grown, few = planted(truth)
    assert (grown.upper >= truth).all() and 6 <= len(few) <= 21 and len(set(few)) == len(few)
    assert all(edge in few for edge in grown.paths)


def test_where_every_search_reaches_its_floor_few_searches_give_the_least_tree():
    births = torch.tensor([0.5, 0.1, 0.3, 0.2, 0.4], dtype=torch.float64)
    floors = torch.maximum(births[:, None], births)
    tree, asked = planted(floors)
    assert torch.equal(tree.upper, floors) and len(asked) == 4
    assert [m.persistence for m in tree.merges] == [0.0] * 4 and tree.candidates == ()


@given(st.integers(0, 2**31), st.booleans())
@settings(max_examples=30, deadline=None)
def test_intervals_hold_the_truth(seed, proven):
    """Heights, components and persistence with walls between some pairs: the truth lies in every interval."""
    truth = ultrametric(seed, 7)
    known = torch.rand(7, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) < 0.4
    tree, _ = planted(truth, obstructions=[Walls(truth, known)], proven=proven)
    assert (tree.lower <= truth).all() and (truth <= tree.upper).all()
    for merge in tree.merges:
        height = min(truth[i, j].item() for i in merge.first for j in merge.second)
        assert merge.lower <= height <= merge.height and merge.persistence >= 0
        assert merge.birth == truth[merge.dead, merge.dead] >= truth[merge.survivor, merge.survivor]
    for threshold in torch.linspace(-0.1, 1.1, 13).tolist():
        alive = [i for i in range(7) if truth[i, i] <= threshold]
        count = len({min(j for j in alive if i == j or truth[i, j] <= threshold) for i in alive})
        least, most = tree.components(threshold)
        assert least <= count <= most


def test_a_retry_searches_another_pair_across_what_stayed_high():
    """Points 2 and 3 are close, which no straight line says: the first pairs all lead over the high barrier."""
    truth = torch.tensor([[0.0, 1, 5, 5], [1, 0, 5, 5], [5, 5, 0, 2], [5, 5, 2, 0.0]], dtype=torch.float64)
    tree, asked = planted(truth)
    assert tree.upper[2, 3] == 5.0 and len(asked) == 3
    retried, more = planted(truth, retries=2)
    assert torch.equal(retried.upper, truth) and len(more) == len(set(more)) <= 6


def test_walls_part_components_for_certain():
    truth = torch.tensor([[0.0, 1, 5, 5], [1, 0, 5, 5], [5, 5, 0, 2], [5, 5, 2, 0.0]], dtype=torch.float64)
    one = torch.zeros(4, 4, dtype=torch.bool)
    one[0, 2] = True
    tree, _ = planted(truth, obstructions=[Walls(truth, one)], retries=1)
    assert tree.components(3.0) == (2, 2) and tree.components_in_words(3.0) == "2 components, proved"
    assert tree.lower[1, 3] == 5.0 and tree.merges[-1].lower == 5.0 and tree.merges[-1].apart
    sampled, _ = planted(truth, obstructions=[Walls(truth, one)], proven=False, retries=1)
    assert sampled.lower[1, 3] == 0.0  # what follows from samples is not proved
    assert sampled.components(3.0) == (2, 2) and sampled.components_in_words(3.0) == "2 components, sampled"
    with pytest.raises(RuntimeError, match="contradiction"):
        planted(truth, obstructions=[Walls(truth + 1, one)])


def test_a_certified_line_counts_whatever_the_rounding():
    """Evaluated in another batch, the same line may seem higher by a last bit."""
    points = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    truth = torch.tensor([[0.0, 0.5], [0.5, 0.0]], dtype=torch.float64)

    def certified(jobs):
        seen = 0.5 * (1 + 1e-9)
        yield Searched((0, 1), dss.Path(points), seen, 0.51, True, jobs[0].goal, "planted", "straight", 0.0, 0, 0)

    tree = grow(Table(truth), points, [0.5], certified)
    assert tree.merges[0].proven and tree.upper[0, 1] == 0.51


def test_one_point_copies_and_chains():
    alone = dss.merge_tree(dss.DoubleWell(), [MINIMA[0]])
    assert len(alone) == 1 and alone.merges == () and alone.components(inf) == (1, 1) and len(alone.path(0, 0)) == 2
    assert alone.to_newick() == "'0';"
    copies = dss.merge_tree(
        dss.DoubleWell(), torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64), search=BAND
    )
    assert copies.upper[0, 1] == 0.0 and len(copies.searches) == 1
    # The path between two copies is a point, whose loss is known: what is proved of one is proved of the other.
    two = dss.merge_tree(dss.DoubleWell(), torch.tensor([MINIMA[0].tolist()] * 2, dtype=torch.float64))
    assert two.merges[0].proven and two.components_in_words(9.0) == "1 component, proved"
    chain = dss.merge_tree(dss.Quadratic(), torch.eye(4, 2, dtype=torch.float64), pairs="chain")
    assert sorted(s.pair for s in chain.searches) == [(0, 1), (1, 2)]  # the last two points are one


def test_the_order_of_points_changes_nothing():
    points = torch.tensor([[-1.0, 0.1], [1.0, 0.2], [0.9, -0.1]], dtype=torch.float64)
    one = dss.merge_tree(dss.DoubleWell(), points, search=dss.GreedyString(margin=0.01), seed=5)
    other = dss.merge_tree(dss.DoubleWell(), points.flip(0), search=dss.GreedyString(margin=0.01), seed=5)
    assert torch.equal(one.upper, other.upper.flip(0, 1))


def test_any_function_may_search():
    def around(problem):
        middle = torch.tensor([[0.0, 0.5]], dtype=torch.float64)
        return dss.Path(torch.cat([problem.start[None], middle, problem.end[None]]))

    ends = torch.tensor(dss.Ring.minima, dtype=torch.float64)
    tree = dss.merge_tree(dss.Ring(), ends, search=around)
    assert tree.searches[0].finder == "function" and tree.upper[0, 1] == pytest.approx((1 - 0.2**0.5) ** 2, rel=1e-3)
    assert len(tree.path(0, 1)) == 3
    with pytest.raises(dss.InputError, match=r"must return a dss\.Path between"):
        dss.merge_tree(dss.Ring(), ends, search=lambda problem: 3)
    with pytest.raises(dss.InputError, match="a finder, or a function"):
        dss.merge_tree(dss.Ring(), ends, search=3)


def test_a_worse_path_than_the_straight_line_does_not_count():
    far = lambda problem: dss.Path(torch.stack([problem.start, torch.tensor([0.0, 9.0], dtype=torch.float64), problem.end]))  # noqa: E731
    tree = dss.merge_tree(dss.DoubleWell(), torch.tensor(dss.DoubleWell.minima, dtype=torch.float64), search=far)
    assert tree.upper[0, 1] == pytest.approx(1.0) and len(tree.path(0, 1)) == 2


def test_the_search_from_below_stops_where_it_should():
    """At once where the threshold can be reached; near the saddle, with a partial string, where it cannot."""
    ends = torch.tensor(dss.Ring.minima, dtype=torch.float64)
    easy = dss.Problem.of(dss.Ring(), *ends, threshold=0.2)
    reached = MinimaxString().run(easy)
    assert reached.status is dss.Status.FOUND and reached.round == 2 and reached.max_loss <= 0.2
    hard = dss.Problem.of(dss.DoubleWell(), *torch.tensor(dss.DoubleWell.minima, dtype=torch.float64), threshold=0.5)
    stuck = MinimaxString(finders=(BAND,)).run(hard)
    assert stuck.status is dss.Status.STALLED and stuck.max_loss == pytest.approx(1.0)
    steps = list(MinimaxString(finders=(BAND,)).steps(hard))
    again = MinimaxString(finders=(BAND,)).run(hard, resume=steps[1])
    assert torch.equal(again.path.beads, steps[-1].path.beads) and again.memory == steps[-1].memory
    with pytest.raises(dss.InputError, match="positive tolerance"):
        MinimaxString(tolerance=0.0)


def test_figures_say_what_the_tree_says():
    truth = ultrametric(5, 7)
    tree, _ = planted(truth, pairs="all")
    levels, counts = component_counts(tree)
    assert len(levels) == 101 and [tuple(row[:2]) for row in counts.tolist()] == [tree.components(t) for t in levels.tolist()]
    assert counts[-1, 1] == 1 and (counts[:, 0] <= counts[:, 1]).all() and (counts[:, 1] <= counts[:, 2]).all()
    heights = {trace.name: set(trace.y) for trace in tree.figure().data}
    assert heights["joined, proved"] == {merge.height for merge in tree.merges} and "joined, sampled" not in heights
    colours = torch.tensor(dss.figures.barrier_matrix(tree).data[0].z)  # positive losses are coloured by their logarithm
    assert torch.allclose(10**colours, tree.upper[list(tree.order)][:, list(tree.order)])
    places = dss.figures.map_by_barriers(planted(torch.tensor([[0.0, 4.0], [4.0, 0.0]]).double())[0])
    assert (places.points[0] - places.points[1]).norm() == pytest.approx(4.0)
    assert merges_table(tree).count("\n") == 7 and matrix_table(tree).count("\n") == 22


def test_disconnected_by_theory_stays_between():
    """The paper's 2-3-2 case: the wall at 1/12 is a lower value, whatever searches find."""
    corners = torch.tensor([[1.0, 0.0], [-0.5, 3**0.5 / 2], [-0.5, -(3**0.5) / 2]], dtype=torch.float64)
    wall = disconnection_threshold(corners, corners.roll(-1, 0))
    truth = torch.tensor([[0.0, 0.1], [0.1, 0.0]], dtype=torch.float64)
    tree, _ = planted(truth, obstructions=[Walls(torch.full((2, 2), float(wall)), torch.ones(2, 2, dtype=torch.bool))])
    assert tree.components(0.05) == (2, 2) and tree.components(0.11) == (1, 1) and tree.components(0.09) == (1, 2)
