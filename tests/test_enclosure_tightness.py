"""Bounds of single layers close in on the loss as their cell shrinks, and never fall below it."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations

from dss.base.errors import EnclosureError
from dss.enclosure import enclose

F64 = torch.float64
CAUSAL = torch.ones(4, 4).tril()
SHUT = torch.zeros(4, 4).masked_fill(CAUSAL == 0, -math.inf)


class Layer(nn.Module):
    """A linear layer, then `function(self, h)` of its outputs as 4 tokens of 4 numbers."""

    def __init__(self, function, module=None):
        super().__init__()
        self.first, self.function, self.module = nn.Linear(8, 16), function, module
        self.register_buffer("causal", CAUSAL)
        self.register_buffer("shut", SHUT)

    def forward(self, x):
        return self.function(self, self.first(x).view(-1, 4, 4)).flatten(1)


def layer(function):
    return lambda: Layer(function)


def of(module, call=lambda module, h: module(h)):
    return lambda: Layer(lambda model, h: call(model.module, h), module())


LAYERS = {
    "masked_fill -inf": layer(lambda m, h: h.masked_fill(m.causal == 0, -math.inf).softmax(-1)),
    "masked_fill -1e9": layer(lambda m, h: h.masked_fill(m.causal == 0, -1e9).softmax(-1)),
    "added -inf": layer(lambda m, h: (h + m.shut).softmax(-1)), "added -1e9": layer(lambda m, h: (h + (1 - m.causal) * -1e9).softmax(-1)),
    "least float": layer(lambda m, h: torch.where(m.causal > 0, h, torch.finfo(torch.float32).min).softmax(-1)),
    "log_softmax": layer(lambda m, h: h.masked_fill(m.causal == 0, -math.inf).log_softmax(-1).masked_fill(m.causal == 0, 0.0)),
    "logsumexp": layer(lambda m, h: (h + m.shut).logsumexp(-1)),
    "softplus low": layer(lambda m, h: F.softplus(h, 1.0, 0.0)), "softplus": layer(lambda m, h: F.softplus(h, 2.0, 3.0)), "power": layer(lambda m, h: h.sigmoid() ** -2),
    "threshold": layer(lambda m, h: F.threshold(h, 0.05, -1.0)), "hardshrink": layer(lambda m, h: F.hardshrink(h, 0.3)),
    "post norm": of(lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)),
    "norm first": of(lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, norm_first=True)),
    "decoder": of(lambda: nn.TransformerDecoderLayer(4, 2, 8, batch_first=True), lambda module, h: module(h, h)),
    "gru of two layers": of(lambda: nn.GRU(4, 5, 2, batch_first=True, bidirectional=True), lambda module, h: module(h)[0]),
    "bias_k": of(lambda: nn.MultiheadAttention(4, 2, add_bias_kv=True, add_zero_attn=True, batch_first=True), lambda module, h: module(h, h, h)[0]),
    "cayley": of(lambda: parametrizations.orthogonal(nn.Linear(4, 4), orthogonal_map="cayley")),
    "matrix_exp": of(lambda: parametrizations.orthogonal(nn.Linear(4, 4))),
}  # fmt: skip


def loss(output, target):
    return (output * target).sum(1).mean()


def gaps(model, middle):
    """The bound less the largest loss on 33 places, for cells of two widths."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, generator=generator, dtype=F64)
    start = {name: value.detach()[None] for name, value in model.named_parameters()}
    end = {name: v + 0.2 * torch.randn(v.shape, generator=generator, dtype=F64) for name, v in start.items()}
    y = torch.randn(2, model(x).shape[1], generator=generator, dtype=F64)
    for width in (1e-2, 1e-3):
        t = torch.tensor([middle - width / 2, middle + width / 2], dtype=F64)
        bound = enclose(model, loss, start, end, t[:1], t[1:], x, y).amax().item()
        points = (
            {name: (v + place * (end[name] - v))[0] for name, v in start.items()}
            for place in torch.linspace(t[0].item(), t[1].item(), 33, dtype=F64)
        )
        with torch.no_grad():
            yield bound - max(loss(functional_call(model, point, (x,)), y).item() for point in points)


@pytest.mark.parametrize("name", LAYERS)
def test_the_gap_of_a_layer_shrinks_at_least_as_fast_as_its_cell(name):
    torch.manual_seed(0)
    model = LAYERS[name]().double().eval()
    for middle in (0.3, 0.6):
        wide, narrow = gaps(model, middle)
        assert min(wide, narrow) > -1e-12, "a loss above its bound"
        assert narrow <= max(wide / 10, 1e-9) and narrow < 1e-3


def test_what_casts_a_parameter_to_whole_numbers_is_refused():
    model = nn.Sequential(parametrizations.orthogonal(nn.Linear(8, 3), orthogonal_map="householder")).double().eval()
    start = {name: value.detach()[None] for name, value in model.named_parameters()}
    t = torch.zeros(1, dtype=F64)
    with pytest.raises(EnclosureError, match=r"householder|jumps"):
        enclose(model, loss, start, start, t, t + 1, torch.ones(2, 8), torch.ones(2, 3))
