"""Proved figures are printed so that what is printed is true."""

import math
from decimal import Decimal

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from dss.base.rounded import above, at_most, below
from dss.certificates.bracket import Bracket, Verdict
from dss.cli.certify import _in_words

REALS = st.floats(allow_nan=False, allow_infinity=False)


@given(value=REALS, digits=st.integers(1, 16))
def test_bounds_are_rounded_outward_by_less_than_their_last_digit(value, digits):
    low, exact, high = Decimal(below(value, digits)), Decimal(value), Decimal(above(value, digits))
    assert low <= exact <= high
    if value:
        step = Decimal(1).scaleb(exact.adjusted() - digits + 1)
        assert high - exact < step and exact - low < step


@given(limit=st.floats(1e-12, 1e12), share=st.floats(0, 1))
def test_a_bound_beside_its_limit_is_true_as_it_stands(limit, share):
    value = limit * share
    assume(value <= limit)
    bound, level = map(Decimal, at_most(value, limit).split(" <= "))
    assert Decimal(value) <= bound <= level and float(level) == pytest.approx(limit, rel=1e-5)


def test_bounds_read_as_people_write_them():
    assert (above(0.3464381, 6), below(0.3464389, 6)) == ("0.346439", "0.346438")
    assert (above(math.inf), below(-math.inf), above(0.0)) == ("inf", "-inf", "0")
    assert at_most(0.3462801, 0.35) == "0.346281 <= 0.35" and at_most(0.34628012, 0.3462802) == "0.3462802 <= 0.3462802"


def bracket(lower):
    return Bracket(0.349000001234, 0.348245502, 2, 0.5, 12, Verdict.BRACKETED, torch.zeros(1, 4), lower)


def test_a_bracket_says_what_is_proved_and_what_was_rounded():
    proved, computed = _in_words(bracket(0.3482455249), torch.float32).split("\n")
    assert proved == (
        "the largest loss of the path is known to the tolerance: at least 0.348245524 and at most 0.349000002, both proved (12 cells)"
    )
    assert computed == "  largest computed     0.3482455, on segment 2 at t = 0.500000, rounded in float32"
    alone = _in_words(bracket(-math.inf), torch.float64).split("\n")
    assert alone[0].endswith(": at most 0.349000002, proved (12 cells)") and "0.348245502, on" in alone[1]
    assert "0.34825" not in _in_words(bracket(0.3), torch.bfloat16)
