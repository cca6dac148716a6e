"""What the enclosure of a network cannot follow ends in a refusal with its cause, and nothing else does."""

import pytest
import torch
import torch.nn.functional as F
from enclosure_net import F64, TOKENS, Net, X, Y, bounded
from torch import nn

import dss
from dss.base.errors import EnclosureError
from dss.enclosure import enclose


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, cotangent):
        return cotangent * 2


class DoubledApart(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x * 2

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass


def _swallowed(net, h):
    try:
        return h * float((h.abs() >= 0).all().item())
    except Exception:
        return h


def _into_a_constant(net, h):
    c = torch.arange(8, dtype=h.dtype).repeat(h.shape[0], 1)
    c += h
    return c


def _under_complex_numbers(net, h):
    own = h * 1
    pairs = torch.view_as_complex(own.view(-1, 4, 2))
    own.relu_()
    return torch.view_as_real(pairs * 1j).flatten(1)


def _under_real_numbers(net, h):
    pairs = torch.view_as_complex(h.view(-1, 4, 2)) * 1j
    torch.view_as_real(pairs).relu_()
    return pairs.real.repeat(1, 2)


def _view(net, h):
    v = h.view(-1, 2, 4)
    v.relu_()
    return h


def _chunk(net, h):
    a, b = h.chunk(2, 1)
    a.relu_()
    return torch.cat([a, b], 1)


def _detached(net, h):
    d = h.detach()
    d.relu_()
    return h


def _autocast(net, h):
    with torch.autocast("cpu", torch.bfloat16):
        return F.linear(h, net.w).to(h.dtype)


REFUSED = {
    "autograd function": (lambda net, h: Doubled.apply(h), X, "cannot be enclosed, because it raises RuntimeError"),
    "autograd function, set up apart": (lambda net, h: DoubledApart.apply(h), X, "custom_function_call"),
    "noise with a generator": (lambda net, h: h + torch.randn(8, generator=torch.Generator().manual_seed(0)), X, "random operation"),
    "noise": (lambda net, h: h + torch.rand_like(h), X, "rand_like"),
    "branch on tokens": (lambda net, h: net.w[h].mean(1) * (2 if (h >= 0).any() else 1), TOKENS, "data-dependent control flow"),
    "branch on data": (lambda net, h: h * (2 if (net.mask * h.detach() > 4).any() else 1), X, "'any'"),
    "branch on a value": (lambda net, h: h if h.mean() > 0 else -h, X, "branch on it cannot be followed"),
    "swallowed refusal": (_swallowed, X, "branch"), "into a constant": (_into_a_constant, X, "holds no enclosure"),
    "sort": (lambda net, h: h.sort(1)[0], X, "'sort' of entries whose order"), "topk": (lambda net, h: h.topk(2, 1)[0].repeat(1, 4), X, "'topk' of entries"),
    "under complex numbers": (_under_complex_numbers, X, "shares its memory"), "under real numbers": (_under_real_numbers, X, "shares its memory"),
    "complex power": (lambda net, h: (torch.view_as_complex(h.view(-1, 4, 2)) ** 2).real.repeat(1, 2), X, "of complex numbers"),
    "view": (_view, X, "shares its memory"), "chunk": (_chunk, X, "shares its memory"), "detached": (_detached, X, "shares its memory"),
    "autocast": (_autocast, X, "autocast"), "bfloat16": (lambda net, h: h.bfloat16().to(h.dtype), X, "two or three digits"),
    "own error": (lambda net, h: [][1], X, "IndexError"), "assertion": (lambda net, h: h if h.abs().max() < 9 else 1 / 0, X, "cannot be followed|'max'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_ends_in_a_refusal_that_names_it(name):
    way, x, cause = REFUSED[name]
    with pytest.raises(EnclosureError, match=cause):
        bounded(way, x=x)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_functions_are_refused():
    double = torch.jit.trace(lambda x: x * 2, torch.ones(2, 8))
    with pytest.raises(EnclosureError, match=r"cannot be enclosed|no rule"):
        bounded(lambda net, h: double(h))


@pytest.mark.parametrize("error", [MemoryError("full"), KeyboardInterrupt()])
def test_what_says_nothing_about_the_network_passes_through(error):
    def way(net, h):
        raise error

    with pytest.raises(type(error)):
        bounded(way)


@pytest.mark.parametrize("name", ["autograd function", "view", "swallowed refusal", "sort"])
def test_a_certificate_falls_back_to_samples_and_says_why(name):
    way, x, _ = REFUSED[name]
    judge = dss.NetworkObjective(Net(way), F.cross_entropy, (x, Y))
    a = judge.space.flatten(Net(way).state_dict())
    found = dss.certify(judge, dss.Path(torch.stack([a, a * 1.1])), threshold=100.0, grid=4, prove=True)
    assert found.passed and not found.proven and found.upper is None and "no proof: " in found.reason


def test_a_padded_pool_before_a_linear_layer_is_bounded():
    for pool in (nn.MaxPool2d(3, 1, 1), nn.MaxPool2d(2, 2, 1), nn.MaxPool2d(3, 2, 1, ceil_mode=True)):
        net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), pool, nn.Flatten(), nn.LazyLinear(3)).double()
        images = torch.randn(4, 1, 6, 6, dtype=F64, generator=torch.Generator().manual_seed(0))
        net(images)
        start = {n: p.detach()[None] for n, p in net.named_parameters()}
        zero = torch.zeros(1, dtype=F64)
        bound = enclose(
            net, F.mse_loss, start, {n: p + 0.01 for n, p in start.items()}, zero, zero + 0.5, images, torch.zeros(4, 3)
        )
        assert net(images).square().mean() <= bound.amax() <= 2 * net(images).square().mean() + 0.2
