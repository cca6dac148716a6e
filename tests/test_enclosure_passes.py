"""What a pass keeps and counts; its polynomials; errors that are traced back inside a deep network."""

import pytest
import torch
import torch.nn.functional as F
from enclosure_points import place
from torch import Tensor, nn
from torch.func import functional_call

from dss.enclosure import Enclosure, StandIn, adjoint, suited
from dss.enclosure.passes import under_way
from dss.enclosure.rules import recurrent
from dss.enclosure.rules.products import matmul
from dss.enclosure.standin import value_of

F64 = torch.float64


def deep(layers: int, width: int = 3) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(*(part for _ in range(layers) for part in (nn.Linear(width, width), nn.ReLU()))).double()
    for layer in net[::2]:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return net


def test_kinks_are_counted_and_wide_ones_among_them_but_not_maxima():
    center = torch.linspace(-1, 1, 200, dtype=F64)
    x = Enclosure(center, torch.full_like(center, 0.5), torch.zeros_like(center))
    with under_way() as state:
        F.relu(x[70:150]), F.relu(x), F.leaky_relu(x), torch.maximum(x, x + 0.1)
    assert (state.kinks, state.bends) == (3, 2)


@pytest.mark.parametrize("layers", [12, 13])
def test_errors_are_traced_back_inside_deep_networks_alone(layers):
    net = deep(layers)
    tensors = {name: value.detach() for name, value in net.named_parameters()}
    found = suited(net, F.mse_loss, tensors, (torch.ones(1, 3, dtype=F64),), torch.zeros(1, 3, dtype=F64))
    assert found == {"rough": True, "third": False, "inside": layers > 12, "fixed": ()}


def polynomial(seed: int) -> Enclosure:
    """Of third order, without an error."""
    center, slope, bend, twist = torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return Enclosure(center, slope, torch.zeros_like(center), bend, twist)


@pytest.mark.parametrize("third", [False, True])
def test_a_product_is_its_chebyshev_series_and_what_is_beyond_is_the_error(third):
    x, y, tau = polynomial(0), polynomial(1), torch.cos(torch.linspace(0, torch.pi, 4001, dtype=F64))
    with under_way(third=third):
        product = matmul(x, y)
    values = torch.stack([place(x, t) @ place(y, t) for t in tau])
    series = torch.fft.rfft(torch.cat([values, values[1:-1].flip(0)]), dim=0, norm="forward").real[:8]
    series[1:] *= 2
    parts = (product.center, product.slope, product.bend) + ((product.twist,) if third else ())
    assert third == (product.twist is not None)
    for found, exact in zip(parts, series):
        torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)
    torch.testing.assert_close(product.error, series[len(parts) :].abs().sum(0), rtol=0, atol=1e-12)


def moved(net: nn.Module, width: float) -> dict[str, Enclosure]:
    """Its parameters on a cell along a random direction."""
    generator = torch.Generator().manual_seed(1)
    slopes = {name: width * torch.randn(value.shape, generator=generator, dtype=F64) for name, value in net.named_parameters()}
    zero = torch.zeros((), dtype=F64)
    return {name: Enclosure(value.detach(), slopes[name], zero) for name, value in net.named_parameters()}


SAMPLE = torch.ones(1, 8, dtype=F64)


def enclosed(net: nn.Module, weights: dict[str, Enclosure], *, inside: bool, sample: Tensor = SAMPLE) -> tuple[Enclosure, int]:
    """The outputs on one sample, and at how many places inside errors were traced back."""
    with under_way(inside=inside, third=True) as state, torch.no_grad():
        tensors = {name: StandIn(weight, F64) for name, weight in weights.items()}
        output = functional_call(net, tensors, (sample,))
        return value_of(output[0] if isinstance(output, tuple) else output), len(state.refined)


@pytest.mark.parametrize("window", [1, 2, 100])
def test_what_is_traced_back_inside_is_tighter_and_no_value_leaves_it(window, monkeypatch):
    monkeypatch.setattr(adjoint, "WINDOW", window)
    net = deep(20, 8)
    weights = moved(net, 5e-3)
    (plain, none), (sharp, places) = (enclosed(net, weights, inside=inside) for inside in (False, True))
    assert (none, places) == (0, 10) and sharp.error.amax() < plain.error.amax() / 2
    for tau in torch.linspace(-1, 1, 201, dtype=F64):
        value = functional_call(net, {name: place(w, tau) for name, w in weights.items()}, (SAMPLE,))
        assert ((value - place(sharp, tau)).abs() <= sharp.error).all()


@pytest.mark.parametrize(("kind", "states"), [(nn.GRU, 1), (nn.LSTM, 2), (nn.RNN, 1)])
def test_the_state_of_a_recurrence_is_traced_back_on_the_way(kind, states):
    torch.manual_seed(0)
    net, sample = kind(3, 8, batch_first=True).double(), torch.randn(1, 32, 3, dtype=F64)
    for weight in net.parameters():
        weight.data *= 2
    weights = moved(net, 3e-3)
    (plain, _), (sharp, places) = (enclosed(net, weights, inside=inside, sample=sample) for inside in (False, True))
    assert places == 32 // recurrent.WINDOW * states and sharp.error.amax() < plain.error.amax() / 2
    for tau in torch.linspace(-1, 1, 41, dtype=F64):
        value = functional_call(net, {name: place(w, tau) for name, w in weights.items()}, (sample,))[0]
        assert ((value - place(sharp, tau)).abs() <= sharp.error).all()


def test_a_layer_with_too_many_entries_for_what_went_before_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(adjoint, "INNER_ROWS", 7)
    net = deep(4, 8)
    assert enclosed(net, moved(net, 2e-3), inside=True)[1] == 0


def test_the_range_of_a_parabola_is_exact():
    tau = torch.linspace(-1, 1, 100_001, dtype=F64)
    generator = torch.Generator().manual_seed(0)
    center, slope, bend = torch.randn(3, 200, 1, generator=generator, dtype=F64)
    values = center + slope * tau + bend * (2 * tau**2 - 1)
    low, high = Enclosure(center, slope, torch.zeros_like(center), bend).extent
    for found, exact in ((low, values.amin(1)), (high, values.amax(1))):
        assert torch.allclose(found[:, 0], exact, rtol=0, atol=1e-8)
    assert (low[:, 0] <= values.amin(1) + 1e-15).all() and (high[:, 0] >= values.amax(1) - 1e-15).all()
