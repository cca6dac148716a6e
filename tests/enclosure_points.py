"""Points inside enclosures: random and extreme ones, for tests that nothing leaves."""

import torch
from hypothesis import strategies as st

from dss.enclosure import CORNERS, Enclosure, StandIn
from dss.enclosure.passes import under_way
from dss.enclosure.standin import value_of

F64 = torch.float64

CELLS = {
    "seed": st.integers(0, 2**31), "width": st.integers(-20, 0).map(lambda power: 2.0**power), "error": st.sampled_from([0.0, 2**-3, 2.0]),
    "kind": st.sampled_from(["random", "zeros", "ties", "signs"]),
    "third": st.booleans(),
    "inside": st.booleans(),
}  # fmt: skip
SCALES = st.sampled_from([2.0**-100, 2.0**-10, 1.0, 4.0, 32.0, 2.0**13])


def random_enclosure(shape, generator, *, width=2**-4, scale=1.0, error=2**-3, kind="random", low=None):
    """An enclosure of width `width` (slope), with `error * width` for each kind of what is not known to first order.

    `low` makes every value at least that times scale. With powers of two for width, scale and error, every number has
    so few bits that the points below are exact.
    """
    draw = lambda *rows: (torch.randn((*rows, *shape), generator=generator, dtype=F64) * 2**10).round() / 2**10  # noqa: E731
    center = {"random": draw(), "zeros": draw() * 0, "ties": draw() * 0 + 1, "signs": draw().sign()}[kind]
    slope, spread = width * draw(), error * width * draw().abs()
    bend, twist = error * width * draw(), error * width * draw()
    if low is not None:
        center = center.abs() + low + slope.abs() + spread + bend.abs() + twist.abs()
    return Enclosure(center * scale, slope * scale, spread * scale, bend * scale, twist * scale)


def points_inside(enclosures, generator, count=24):
    """`count` pairs (tau, values): ends, center and random places, errors at random and at their extremes."""
    for i in range(count):
        tau = [-1.0, 1.0, 0.0][i] if i < 3 else float(torch.randint(-128, 129, (), generator=generator)) / 128
        draw = lambda shape: torch.randint(-128, 129, shape, generator=generator).to(F64) / 128  # noqa: E731
        values = []
        for x in enclosures:
            part = draw(x.center.shape)
            part = part.sign() if i % 2 else part
            values.append(place(x, tau) + part * x.error)
        yield tau, values


def place(x, tau):
    """Where an enclosure is without its error."""
    at = x.center + tau * x.slope
    at = at if x.bend is None else at + (2 * tau**2 - 1) * x.bend
    return at if x.twist is None else at + (4 * tau**3 - 3 * tau) * x.twist


def assert_inside(result, tau, value, *, slack=1e-13):
    """`value` lies in `result` at `tau`, up to the rounding of the value itself."""
    off = (value - place(result, tau)).abs() - result.error
    allowed = slack * (value.abs() + result.magnitude) + 1e-290
    assert not (off > allowed).any(), f"outside by {(off - allowed).max().item():.3e} at tau = {tau}"
    if result.ceiling is not None:
        assert not (value > under_corners(result.ceiling, tau) + allowed).any(), f"above its ceiling at tau = {tau}"


def under_corners(values, tau):
    """The most that a function convex in (tau, q) with these values at the corners can be at q = 2 tau^2 - 1.

    The point lies between the upper side of the polygon, q = 1, and its lower one.
    """
    taus = [corner[0] for corner in CORNERS]
    i = next(i for i in range(len(taus) - 1) if tau <= taus[i + 1])
    share = (tau - taus[i]) / (taus[i + 1] - taus[i])
    low = (1 - share) * values[i] + share * values[i + 1]
    floor = (1 - share) * CORNERS[i][1] + share * CORNERS[i + 1][1]
    high = ((1 - tau) * values[0] + (1 + tau) * values[-1]) / 2
    part = 0.0 if floor == 1 else (2 * tau**2 - 1 - floor) / (1 - floor)
    return (1 - part) * low + part * high


def check(function, shapes, seed, third=False, inside=False, **options):
    """Whether no point of random cells leaves what a function makes of their enclosures."""
    generator = torch.Generator().manual_seed(seed)
    cells = [random_enclosure(shape, generator, **options) for shape in shapes]
    with under_way(third=third, inside=inside):
        result = value_of(function(*(StandIn(x, F64) for x in cells)))
    assert isinstance(result, Enclosure)
    if options["width"] <= 2**-10 and options["error"] <= 2**-3 and options["scale"] <= 4:
        assert result.center.isfinite().all() and result.error.isfinite().all(), "a narrow cell must be known"
    for tau, values in points_inside(cells, generator):
        assert_inside(result, tau, function(*(value.clone() for value in values)))
