"""Points inside enclosures: random and extreme ones, for tests that nothing leaves."""

import torch

from dss.enclosure import Enclosure

F64 = torch.float64


def random_enclosure(shape, generator, *, width=2**-4, scale=1.0, error=2**-3, kind="random", low=None):
    """An enclosure of width `width` (slope) and `error * width`; `low` makes every value at least that times scale.

    With powers of two for width, scale and error, every number has so few bits that the points below are exact.
    """
    draw = lambda: (torch.randn(shape, generator=generator, dtype=F64) * 2**10).round() / 2**10  # noqa: E731
    center = {"random": draw(), "zeros": draw() * 0, "ties": draw() * 0 + 1, "signs": draw().sign()}[kind]
    slope, spread = width * draw(), error * width * draw().abs()
    if low is not None:
        center = center.abs() + low + slope.abs() + spread
    return Enclosure(center * scale, slope * scale, spread * scale)


def points_inside(enclosures, generator, count=24):
    """`count` tuples (tau, values): the ends, the center and random places, errors at random and at their extremes."""
    for i in range(count):
        tau = [-1.0, 1.0, 0.0][i] if i < 3 else float(torch.randint(-128, 129, (), generator=generator)) / 128
        values = []
        for x in enclosures:
            part = torch.randint(-128, 129, x.center.shape, generator=generator).to(F64) / 128
            part = part.sign() if i % 2 else part
            values.append(x.center + tau * x.slope + part * x.error)
        yield tau, values


def assert_inside(result, tau, value, *, slack=1e-13):
    """`value` lies in `result` at `tau`, up to the rounding of the value itself."""
    off = (value - (result.center + tau * result.slope)).abs() - result.error
    allowed = slack * (value.abs() + result.center.abs()) + 1e-290
    assert not (off > allowed).any(), f"outside by {(off - allowed).max().item():.3e} at tau = {tau}"
    if result.ceiling is not None:
        above = ((1 - tau) * result.ceiling[0] + (1 + tau) * result.ceiling[1]) / 2
        assert not (value > above + allowed).any(), f"above its ceiling at tau = {tau}"
