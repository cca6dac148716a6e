"""Parts of third order: third derivatives are what they claim, and what is left of a smooth network is of fourth order."""

import pytest
import torch
import torch.nn.functional as F

from dss.enclosure import Enclosure, StandIn
from dss.enclosure.passes import under_way
from dss.enclosure.rules import activations, composed, curves
from dss.enclosure.rules.arithmetic import multiply
from dss.enclosure.rules.curves import Curve, thirds
from dss.enclosure.standin import value_of

F64 = torch.float64
CURVES = {
    name: curve
    for name, curve in (vars(curves) | vars(activations) | vars(composed)).items()
    if isinstance(curve, Curve) and curve.third is not None
} | {"x^2.5": curves.power_curve(2.5), "x^-.7": curves.power_curve(-0.7)}


def ends(curve, generator, count=200):
    """Intervals of all sizes, near 0 and far from it."""
    scale = 10 ** (torch.rand(count, generator=generator, dtype=F64) * 4 - 3)
    if curve.positive:
        low = 0.05 + scale * torch.rand(count, generator=generator, dtype=F64)
        return low, low + scale
    low = 3 * torch.randn(count, generator=generator, dtype=F64)
    return low, low + scale


@pytest.mark.parametrize("name", CURVES)
def test_a_third_derivative_is_that_of_the_second(name):
    curve, generator = CURVES[name], torch.Generator().manual_seed(0)
    x = ends(curve, generator)[0].requires_grad_()
    assert curve.third is not None
    (slope,) = torch.autograd.grad(curve.bend(x).sum(), x)
    torch.testing.assert_close(curve.third(x.detach()), slope, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", CURVES)
def test_the_range_of_a_third_derivative_holds_a_dense_grid_and_little_more(name):
    curve = CURVES[name]
    assert curve.third is not None
    low, high = ends(curve, torch.Generator().manual_seed(1))
    grid = curve.third(torch.lerp(low, high, torch.linspace(0, 1, 20_001, dtype=F64)[:, None]))
    least, most = thirds(curve, low, high)
    size = 1e-3 * (1 + grid.abs().amax(0))
    assert (least <= grid.amin(0)).all() and (most >= grid.amax(0)).all()
    assert (least >= grid.amin(0) - size).all() and (most <= grid.amax(0) + size).all()


def test_tau_times_a_parabola_is_exact():
    slope, bend = (torch.tensor([value], dtype=F64) for value in (0.5, 0.25))
    zero = torch.zeros(1, dtype=F64)
    with under_way(third=True):
        product = multiply(Enclosure(zero, slope, zero), Enclosure(zero, zero, zero, bend))
    assert (
        product.twist is not None
        and product.slope.item() == product.twist.item() == 0.5 * 0.25 / 2
        and product.error.item() < 1e-14
    )


SMOOTH = {
    "tanh": lambda h: (h.tanh() @ h.sigmoid()).tanh(),
    "softmax": lambda h: (h @ h.mT).softmax(-1) @ h,
    "layer norm": lambda h: F.layer_norm(h, (4,)),
    "logsumexp": lambda h: (h * h).logsumexp(-1),
    "log_softmax": lambda h: (h * h).log_softmax(-1),
    "gelu": lambda h: F.gelu(h @ h),
    "attention": lambda h: F.scaled_dot_product_attention(h, h, h),
    "power": lambda h: h.sigmoid() ** -2,
}


def left(function, width, *, third):
    """The largest error of a function of a moving matrix."""
    generator = torch.Generator().manual_seed(0)
    center, slope = torch.randn(2, 4, 4, generator=generator, dtype=F64)
    x = Enclosure(center, width * slope, torch.zeros_like(center))
    with under_way(third=third):
        return value_of(function(StandIn(x, F64))).error.amax().item()


@pytest.mark.parametrize("name", SMOOTH)
def test_what_is_left_is_of_fourth_order(name):
    wide, narrow = (left(SMOOTH[name], width, third=True) for width in (0.04, 0.004))
    assert narrow < wide / 5e3, "of third order it would be a thousandth"
    assert wide < left(SMOOTH[name], 0.04, third=False) / 3
