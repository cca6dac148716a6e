"""No point leaves a rule that is made of others, on the domain that torch gives numbers for."""

import math

import pytest
import torch
import torch.nn.functional as F
from enclosure_points import CELLS, F64, check
from hypothesis import given, settings
from hypothesis import strategies as st

from dss import EnclosureError
from dss.enclosure import Enclosure

MATRIX = (4, 5)
PARTS = torch.tensor([[1.0, 0.5, 2.0, -1.0, 3.0]], dtype=F64)

ANY = {
    "asinh": torch.asinh, "tan": lambda x: torch.tan(x / 16), "ndtr": torch.special.ndtr, "nan_to_num": torch.nan_to_num, "ldexp": lambda x: torch.ldexp(x, torch.tensor(-2)),
    "ldexp moving": lambda x: torch.ldexp(x, x / 8), "nansum": lambda x: torch.nansum(x, 1), "nanmean": lambda x: x.nanmean(), "trapezoid": lambda x: torch.trapezoid(x, dx=0.5),
    "cumulative_trapezoid": lambda x: torch.cumulative_trapezoid(x, dim=0), "logcumsumexp": lambda x: torch.logcumsumexp(x / 4, 1), "matrix_power": lambda x: torch.linalg.matrix_power(x[:, :4], 3),
    "norm of what may vanish": lambda x: x.norm(dim=1), "std": lambda x: x.std(0), "cdist": lambda x: torch.cdist(x, x), "hypot": lambda x: torch.hypot(x, x.flip(0)), "norm 4": lambda x: x.norm(4, 0),
    "matrix_norm 1": lambda x: torch.linalg.matrix_norm(x, 1), "matrix_norm inf": lambda x: torch.linalg.matrix_norm(x[None], math.inf, keepdim=True), "matrix_norm -inf": lambda x: torch.linalg.matrix_norm(x, -math.inf),
    "fmax": lambda x: torch.fmax(x, PARTS), "fmin": lambda x: torch.fmin(x, x.flip(1)), "aminmax": lambda x: sum(torch.aminmax(x, dim=1)), "aminmax all": lambda x: torch.aminmax(x).max,
    "lp_pool1d": lambda x: F.lp_pool1d(x, 1, 2), "cov": lambda x: torch.cov(x), "dist 1": lambda x: torch.dist(x[0], x[1], 1)[None],
}  # fmt: skip
POSITIVE = {
    "acosh": lambda x: torch.acosh(x + 1.5), "asin": lambda x: torch.asin(x / (x + 1)), "acos": lambda x: torch.acos(-x / (x + 1)), "atanh": lambda x: torch.atanh(x / (x + 1)),
    "hypot": lambda x: torch.hypot(x, -x.flip(1)), "atan2": lambda x: torch.atan2(x.flip(1), x), "atan2 below": lambda x: torch.atan2(-x, -x / 2), "xlogy": lambda x: torch.xlogy(-x, x), "xlog1py": lambda x: torch.special.xlog1py(x, x),
    "entr": torch.special.entr, "power of its own": lambda x: (x + 0.5) ** (x.flip(1) / (x.flip(1) + 1)), "powers that differ": lambda x: x**PARTS, "float_power": lambda x: torch.float_power(x, 1.5), "power of constants": lambda x: (PARTS.abs() + 0.5) ** (x / (x + 1)),
    "matrix_norm": lambda x: torch.linalg.matrix_norm(x), "dist": lambda x: torch.dist(x, -x)[None], "cdist": lambda x: torch.cdist(x, -x), "cdist 1": lambda x: torch.cdist(x, x.flip(1), 1.0),
    "lp_pool1d": lambda x: F.lp_pool1d(x, 3, 2), "lp_pool2d": lambda x: F.lp_pool2d(x[None], 2, (2, 1), ceil_mode=True), "norm 2.5": lambda x: x.norm(2.5, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", ANY)
@given(**CELLS, scale=st.sampled_from([2.0**-10, 1.0, 4.0]))
@settings(max_examples=10, deadline=None)
def test_no_point_leaves_a_rule_of_any_numbers(name, seed, scale, **options):
    check(ANY[name], [MATRIX], seed, scale=scale, **options)


@pytest.mark.parametrize("name", POSITIVE)
@given(**CELLS, scale=st.sampled_from([2.0**-8, 1.0, 4.0]))
@settings(max_examples=10, deadline=None)
def test_no_point_leaves_a_rule_of_positive_numbers(name, seed, scale, **options):
    check(POSITIVE[name], [MATRIX], seed, scale=scale, low=2**-4, **options)


@pytest.mark.parametrize("dim", [0, -1])
@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("reduce", ["sum", "mean", "amax", "amin"])
@given(**CELLS)
@settings(max_examples=6, deadline=None)
def test_no_point_leaves_what_is_reduced_at_given_places(reduce, include, dim, seed, **options):
    index = torch.randint(3, (3, 4), generator=torch.Generator().manual_seed(seed))
    check(
        lambda x, y: x.scatter_reduce(dim, index, y, reduce, include_self=include), [MATRIX, MATRIX], seed, scale=1.0, **options
    )


def moving(*values, slope=0.01):
    """One number after the other, each moving a little."""
    center = torch.tensor(values, dtype=F64)
    return Enclosure(center, torch.full_like(center, slope), torch.zeros_like(center))


def known(x):
    return x.center.isfinite() & x.slope.isfinite() & x.error.isfinite()


@pytest.mark.parametrize(
    ("function", "inside", "outside"),
    [
        (torch.asin, 0.5, 1.0), (torch.acos, -0.5, -1.0), (torch.atanh, 0.5, 1.0), (torch.acosh, 1.5, 1.0), (torch.tan, 1.0, math.pi / 2),
        (lambda x: torch.atan2(x * 0.1, x - 2), 3.0, 0.0), (torch.special.entr, 1.0, 0.0),
    ],
)  # fmt: skip
def test_nothing_is_claimed_at_the_border_of_a_domain(function, inside, outside):
    assert known(function(moving(inside))).all() and not known(function(moving(outside))).any()


def test_powers_of_zero_are_known_where_they_are_whole():
    assert known(moving(0.0, 3.0).norm(3, 0)) and not known(moving(0.0, 3.0).norm(2.5, 0))


@pytest.mark.parametrize(
    "size",
    [
        lambda x: x.norm(dim=0),
        lambda x: torch.hypot(x, x * 2)[0],
        lambda x: x.norm(4, 0),
        lambda x: torch.cdist(x[:, None], x[:, None])[0, 0],
    ],
)
def test_sizes_of_what_may_vanish_are_known_and_shrink_with_the_cell(size):
    wide, narrow = (size(moving(0.0, 0.0, slope=slope)) for slope in (0.1, 0.001))
    assert known(wide) and known(narrow) and (narrow.error < 0.02 * wide.error + 1e-9).all()


def test_what_is_no_number_stays_unknown():
    infinite = Enclosure(torch.tensor([-math.inf, 1.0], dtype=F64), torch.zeros(2, dtype=F64), torch.zeros(2, dtype=F64))
    assert known(torch.nan_to_num(infinite)).tolist() == [False, True]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.linalg.matrix_norm(x, 2), lambda x: torch.linalg.matrix_norm(x, "nuc"), lambda x: torch.linalg.matrix_power(x, -1),
        lambda x: torch.trapezoid(x, torch.arange(2.0)), lambda x: torch.cov(x, fweights=torch.tensor([1, 2])), lambda x: x**0,
        lambda x: x.scatter_reduce(0, torch.zeros(1, 2, dtype=torch.long), x, "prod"),
    ],
)  # fmt: skip
def test_what_has_no_formula_here_is_refused(function):
    with pytest.raises(EnclosureError, match="no rule encloses"):
        function(moving(1.0, 2.0, 3.0, 4.0).reshape(2, 2))
