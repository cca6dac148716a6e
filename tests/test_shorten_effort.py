"""What shortening leaves out where points are evaluated one by one: gradients of a step that has failed already."""

from math import inf

import pytest
import torch

import dss
from dss.geodesic.constraint_points import ConstraintPoints
from dss.geodesic.constraints import ConstraintFunction, Level
from dss.geodesic.shortening import shorten_within
from dss.geodesic.sqp import SequentialQP, _Program
from dss.geodesic.string import String

FLOAT = torch.float64


class OneByOne(dss.Ring):
    """The ring, whose points are evaluated one at a time."""

    @property
    def evaluates_apart(self):
        return True


class Rippled(dss.Ring):
    """The ring with ripples: steps that are too long for what is known of it fail."""

    def __call__(self, points):
        return super().__call__(points) + 0.02 * (20 * points[:, 0].double()).sin() ** 2


class RippledOneByOne(Rippled, OneByOne):
    """The same, one point at a time."""


def around_the_ring(n):
    angles = torch.pi * (1 - torch.arange(n, dtype=FLOAT) / (n - 1))
    beads = torch.stack([angles.cos(), angles.sin()], 1)
    beads[0], beads[-1] = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 0.0])
    return dss.Path(beads)


def problem_of(objective, path, threshold):
    return dss.Problem.of(objective, path.beads[0], path.beads[-1], threshold=threshold)


def test_steps_that_fail_cost_fewer_gradients_and_the_string_is_as_short():
    path, threshold, spent, lengths = around_the_ring(17), 0.1, [], []
    for objective in (Rippled(), RippledOneByOne()):
        problem = problem_of(objective, path, threshold)
        found = shorten_within(problem, path)
        assert found.converged and found.certificate.passed and found.certificate.max_loss <= threshold
        spent.append(problem.tally.gradient_evaluations)
        lengths.append(found.path.normalized_length)
    # Its level set lies inside the ring's.
    assert lengths[1] >= dss.Ring.geodesic_length(threshold)
    assert lengths[1] == pytest.approx(lengths[0], rel=1e-3) and spent[1] < spent[0]


def program(objective, path, threshold):
    level, string, held = (
        Level.of(problem_of(objective, path, threshold), 0.0),
        String(path),
        ConstraintPoints.spread(len(path) - 1, 2),
    )
    points = string.points(held)
    constraints = ConstraintFunction(level, points, level.violations(points), samples=1, key=())
    return _Program(string, held, constraints, SequentialQP())


def test_what_is_seen_before_a_step_is_given_up_never_exceeds_its_merit():
    """The merit is a sum of nonnegative terms: a part of it that is too much settles that the whole is."""
    one = program(OneByOne(), around_the_ring(9), 0.04)
    one.penalties = torch.rand(len(one.weights), dtype=FLOAT, generator=torch.Generator().manual_seed(0))
    one.string.y = 0.6 * one.string.y
    values, gradients, merit = one._evaluate(inf)
    assert not values.isnan().any() and merit == pytest.approx(one._energy() + (one.penalties @ values.relu()).item())
    left_early = 0
    for most in torch.linspace(0.0, 1.07 * merit, 23, dtype=FLOAT).tolist():
        asked = one.asked
        some, few, seen = one._evaluate(most)
        known = ~some.isnan()
        assert one.asked - asked == known.sum()
        torch.testing.assert_close(some[known], values[known])
        torch.testing.assert_close(few[known], gradients[known])
        assert seen <= merit + 1e-12 and (seen > most if not known.all() else True)
        assert known.all() if most >= merit + 1e-9 else seen > most
        left_early += not known.all()
    assert left_early > 10


def test_the_order_in_which_constraints_are_asked_changes_no_value():
    path = around_the_ring(9)
    apart, together = (program(objective, path, 0.04) for objective in (OneByOne(), dss.Ring()))
    assert apart.evaluations == together.evaluations == 1
    torch.testing.assert_close(apart.values, together.values)
    torch.testing.assert_close(apart.gradients, together.gradients)
