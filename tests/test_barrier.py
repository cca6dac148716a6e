"""The minimax threshold on landscapes whose saddles are known."""

import pytest
import torch

import dss

ADAM = dss.Descent(lambda p: torch.optim.Adam(p, lr=0.02), max_steps=150)
FINDERS = {
    "geodesic": dss.GeodesicString(descent=ADAM, limits=dss.Limits(rounds=4, beads=12)),
    "band": dss.ElasticBand(climb=True, descent=ADAM, limits=dss.Limits(rounds=6)),
    "greedy": dss.GreedyString(margin=0.02, descent=ADAM, limits=dss.Limits(rounds=6, beads=12)),
}


def ends(potential):
    return torch.tensor(potential.minima[:2], dtype=torch.float64)


def test_the_bracket_closes_on_the_saddle_of_mueller_and_brown():
    found = dss.barrier(
        dss.MuellerBrown(), *ends(dss.MuellerBrown), finders=(FINDERS["geodesic"], FINDERS["band"]), tolerance=0.03
    )
    saddle = dss.MuellerBrown.saddle_values[0]
    assert saddle - 1e-6 <= found.upper <= saddle + 2.0
    assert found.lower <= found.upper <= found.linear
    assert found.certificate.passed and found.certificate.max_loss == found.upper
    assert found.ends == pytest.approx(dss.MuellerBrown.minimum_values[1])
    assert found.excess == found.upper - found.ends
    assert all(passed == (threshold >= saddle) for threshold, passed in found.tried if abs(threshold - saddle) > 2.0)


@pytest.mark.parametrize("name", FINDERS)
def test_the_straight_line_over_the_double_well_is_already_the_best(name):
    found = dss.barrier(dss.DoubleWell(), *ends(dss.DoubleWell), finders=(FINDERS[name],), tolerance=0.3)
    assert found.linear == pytest.approx(1.0) and found.upper == pytest.approx(1.0)
    assert 0.7 <= found.lower < 1.0
    assert not any(passed for _, passed in found.tried)


def test_inside_a_convex_bowl_there_is_no_barrier_and_nothing_to_search():
    a, b = torch.tensor([[1.0, 0.0], [-0.6, 0.8]], dtype=torch.float64)
    found = dss.barrier(dss.Quadratic(), a, b)
    assert found.upper == found.linear == pytest.approx(1.0) and found.tried == () and found.path.intermediate_beads == 0
    assert found.excess == pytest.approx(0.0, abs=1e-12)


def test_a_tolerance_that_never_ends_is_refused():
    for options in ({"tolerance": 0.0}, {"finders": ()}):
        with pytest.raises(dss.InputError, match="tolerance"):
            dss.barrier(dss.DoubleWell(), *ends(dss.DoubleWell), **options)
