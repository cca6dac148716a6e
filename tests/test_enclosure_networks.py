"""Whole networks: the computed loss never leaves the bound, on cells from 1e-6 to 1 wide, in float32 and float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from enclosure_networks import (
    IMAGES,
    LABELS,
    NEXT,
    WORDS,
    assert_dominated,
    cells,
    exact_loss,
    frozen,
)
from enclosure_points import under_corners
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dss.enclosure import CORNERS, adjoint, enclose, suited
from models.mlp import MLP
from models.recurrent import LanguageModel
from models.resnet import ResNet
from models.transformer import RowTransformer

ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Softplus, nn.LeakyReLU)


def encoder():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True, norm_first=True)
    return nn.Sequential(nn.Flatten(2), nn.Unflatten(1, (1, 1)), nn.Flatten(1, 2), nn.Linear(64, 8), layer, nn.Flatten(),
                         nn.Linear(8, 10))  # fmt: skip


class BothWays(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(12, 4), nn.Linear(10, 12)
        self.recurrent = nn.LSTM(4, 5, num_layers=2, bidirectional=True, batch_first=True)

    def forward(self, words):
        return self.head(self.recurrent(self.embedding(words))[0]).transpose(1, 2)


ARCHITECTURES = {
    **{f"mlp {a.__name__}": (lambda a=a: MLP(64, 10, width=9, depth=3, activation=a), IMAGES, LABELS) for a in ACTIVATIONS},
    "mlp deep": (lambda: MLP(64, 10, width=9, depth=7), IMAGES, LABELS),
    "conv": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
                                   nn.Conv2d(4, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6, 10)),
             IMAGES, LABELS),
    "resnet": (lambda: frozen(ResNet(blocks=1, width=3)), IMAGES, LABELS),
    "resnet plain": (lambda: ResNet(blocks=1, width=3, norm=False), IMAGES, LABELS),
    "lstm": (lambda: LanguageModel(12, width=5, layers=2), WORDS, NEXT),
    "lstm both ways": (BothWays, WORDS, NEXT),
    "gru": (lambda: LanguageModel(12, width=5, cell=nn.GRU), WORDS, NEXT),
    "rnn": (lambda: LanguageModel(12, width=5, cell=nn.RNN), WORDS, NEXT),
    "transformer": (lambda: RowTransformer(width=8, heads=2), IMAGES, LABELS),
    "encoder": (encoder, IMAGES, LABELS),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*nested tensor.*:UserWarning")
@pytest.mark.parametrize("name", ARCHITECTURES)
@given(power=st.floats(-6, -1), seed=st.integers(0, 2**31), dtype=st.sampled_from([torch.float32, torch.float64]))
@settings(max_examples=5, deadline=None)
def test_no_loss_leaves_the_bound_of_its_cell(name, power, seed, dtype):
    make, inputs, target = ARCHITECTURES[name]
    torch.manual_seed(0)
    width = 10**power
    bounds, value = assert_dominated(make(), F.cross_entropy, width, seed, inputs, target, dtype)
    # A loose bound would pass: on narrow cells it must also close in, like the slope of the loss times the width.
    assert width > 1e-3 or (bounds.amax(1) - value <= 3000 * width).all()


@pytest.mark.parametrize("name", ["mlp ReLU", "mlp GELU", "conv", "gru"])
def test_whole_segments_are_bounded_too(name):
    make, inputs, target = ARCHITECTURES[name]
    torch.manual_seed(0)
    assert_dominated(make(), F.cross_entropy, 1.0, 3, inputs, target, torch.float64)


def gaps(name, widths, **options):
    """Largest distance of bounds from the exact largest loss on 41 points, per width of the cells."""
    make, inputs, target = ARCHITECTURES[name]
    torch.manual_seed(0)
    model, found = make().double().eval(), []
    start, end, lower, _ = cells(model, torch.Generator().manual_seed(1), 0.5)
    for width in widths:
        bounds = enclose(model, F.cross_entropy, start, end, lower, lower + width, inputs, target, **options).amax(1)
        places = (lower + width * share for share in torch.linspace(0, 1, 41))
        exact = [exact_loss(model, F.cross_entropy, start, end, t, inputs, target) for t in places]
        found.append((bounds - torch.stack(exact).amax(0)).max().item())
    return found


@pytest.mark.parametrize("name", ["mlp Tanh", "mlp GELU", "lstm", "gru", "transformer"])
def test_the_gap_of_a_smooth_network_shrinks_with_the_cube_of_the_width(name):
    wide, narrow = gaps(name, (1e-2, 1e-3))
    assert 0 <= narrow < wide / 500


@pytest.mark.parametrize("name", ["mlp ReLU", "resnet", "conv"])
def test_the_gap_of_a_network_with_kinks_shrinks_with_the_square_of_the_width(name):
    wide, narrow = gaps(name, (1e-2, 1e-3))
    assert 0 <= narrow < wide / 50


def test_errors_that_are_traced_back_inside_make_a_deep_bound_tighter():
    """On wide cells the ranges inside the network matter."""
    (without,), (inside,) = (gaps("mlp deep", (0.5,), inside=inside) for inside in (False, True))
    assert 0 <= inside < 0.7 * without


@pytest.mark.parametrize(("name", "width", "share"), [("resnet", 0.02, 0.25), ("mlp deep", 0.3, 0.8)])
def test_errors_that_are_traced_back_make_a_bound_tighter(name, width, share, monkeypatch):
    (traced,) = gaps(name, (width,))
    monkeypatch.setattr(adjoint, "MOST_ROWS", 0)
    (carried,) = gaps(name, (width,))
    assert 0 <= traced < share * carried


@pytest.mark.parametrize("options", [{"rough": False}, {"chunk": 1}, {"chunk": 4}, {"third": True}, {"inside": True}])
def test_every_way_of_computing_a_bound_bounds(options):
    make, inputs, target = ARCHITECTURES["conv"]
    torch.manual_seed(0)
    model = make().double().eval()
    start, end, lower, upper = cells(model, torch.Generator().manual_seed(1), 0.02)
    bounds, usual = (enclose(model, F.cross_entropy, start, end, lower, upper, inputs, target, **o) for o in (options, {}))
    assert "chunk" not in options or torch.allclose(bounds, usual, rtol=1e-11)
    for tau in (-1.0, -0.3, 0.5, 1.0):
        value = exact_loss(model, F.cross_entropy, start, end, (lower + upper) / 2 + tau * (upper - lower) / 2, inputs, target)
        assert (value <= under_corners(bounds.T, tau) * (1 + 1e-13)).all()


@pytest.mark.parametrize(("blocks", "width", "inside", "rough"), [(1, 4, False, True), (2, 4, True, True), (3, 8, True, False)])
def test_deep_networks_are_known(blocks, width, inside, rough):
    model = ResNet(blocks=blocks, width=width)
    found = suited(model, F.cross_entropy, model.state_dict(), (IMAGES,), LABELS)
    assert found == {"rough": rough, "third": False, "inside": inside, "fixed": ()}


def test_zero_width_and_equal_ends_leave_rounding_only():
    torch.manual_seed(0)
    model = MLP(64, 10, width=9, depth=3).double()
    start, _, lower, _ = cells(model, torch.Generator().manual_seed(1), 0.5)
    bounds = enclose(model, F.cross_entropy, start, start, lower, lower + 0.5, IMAGES, LABELS)
    exact = exact_loss(model, F.cross_entropy, start, start, lower, IMAGES, LABELS)
    assert (bounds >= exact[:, None]).all() and (bounds <= exact[:, None] + 1e-11).all()


@pytest.mark.parametrize("scale", [0.0, 1e-200, 1e-30, 1e30, 1e200])
def test_any_scale_of_weights_is_bounded_or_infinite_and_never_nan(scale):
    torch.manual_seed(0)
    model = MLP(64, 10, width=9, depth=3).double()
    start = {n: v.detach().expand(2, *v.shape) * scale for n, v in model.named_parameters()}
    end = {n: -v for n, v in start.items()}
    t = torch.tensor([0.2, 0.5], dtype=torch.float64)
    bounds = enclose(model, F.cross_entropy, start, end, t, t + 0.01, IMAGES, LABELS)
    loss = exact_loss(model, F.cross_entropy, start, end, t, IMAGES, LABELS)
    assert not bounds.isnan().any() and (bounds.amax(1) >= loss.nan_to_num(math.inf) * (1 - 1e-13)).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["mlp ReLU", "mlp Sigmoid", "conv", "transformer", "lstm"])
def test_a_weight_that_is_no_number_gives_an_infinite_bound(name, bad):
    make, inputs, target = ARCHITECTURES[name]
    model = make().double()
    start = {n: v.detach().expand(1, *v.shape).clone() for n, v in model.named_parameters()}
    first = next(iter(start))
    start[first][...] = bad
    end = {n: v + 1e-3 for n, v in start.items()}
    t = torch.zeros(1, dtype=torch.float64)
    assert enclose(model, F.cross_entropy, start, end, t, t + 1e-3, inputs, target).isposinf().all()


def test_data_that_is_no_number_gives_an_infinite_bound():
    model, images = MLP(64, 10), IMAGES.clone()
    images[2, 0, 0, 0] = math.nan
    start = {n: v.detach()[None] for n, v in model.named_parameters()}
    t = torch.zeros(1, dtype=torch.float64)
    assert enclose(model, F.cross_entropy, start, start, t, t + 1, images, LABELS).isposinf().all()


def test_the_error_rate_counts_what_is_not_proved_right():
    model = MLP(64, 10, width=9, depth=2).double()
    rate = lambda output, target: (output.argmax(1) != target).double().mean()  # noqa: E731
    start = {n: v.detach()[None] for n, v in model.named_parameters()}
    end = {n: v + torch.randn(v.shape, generator=torch.Generator().manual_seed(0)) for n, v in start.items()}
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    exact = exact_loss(model, rate, start, end, zero, IMAGES, LABELS)
    near = enclose(model, rate, start, end, zero, one * 1e-9, IMAGES, LABELS)
    assert torch.allclose(near, exact.expand(1, len(CORNERS)), atol=1e-12)
    assert (enclose(model, rate, start, end, zero, one, IMAGES, LABELS) >= near - 1e-12).all()
