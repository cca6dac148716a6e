"""Errors of many tokens traced back together: as far as tokens stay apart, and no point escapes where they meet."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from enclosure_points import F64, assert_inside, place, random_enclosure

from dss.enclosure import adjoint
from dss.enclosure.passes import under_way
from dss.enclosure.standin import value_of

TOKENS, WIDTH = 6, 5
LAYERS = 3


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(WIDTH, WIDTH, generator=generator, dtype=F64) for _ in range(2 * LAYERS)]


def apart(h):
    """Blocks of a transformer without attention, written in several ways: no token depends on another."""
    ws = weights()
    for one, other in zip(ws[::2], ws[1::2]):
        inner = F.layer_norm(h, (WIDTH,)).view(-1, WIDTH) @ one
        inner = torch.tanh(inner * 0.5 + 1.0).unflatten(0, (1, TOKENS))
        h = h + F.gelu(F.linear(inner, other)) - inner * inner.mean(-1, keepdim=True)
    return F.layer_norm(h, (WIDTH,))


MIXES = {
    "attention": lambda h: h + F.scaled_dot_product_attention(h, h, h),
    "flip": lambda h: h + h.flip(1),
    "roll": lambda h: h - h.roll(1, 1),
    "transpose": lambda h: h + h.transpose(1, 2).reshape(h.shape) * 0.5,
    "mean of tokens": lambda h: h - h.mean(1, keepdim=True),
    "running sum": lambda h: h.cumsum(1) * 0.3,
    "one token": lambda h: h * h[:, :1],
    "fewer dimensions": lambda h: h + h[0, 2],
    "matrix on the left": lambda h: torch.matmul(torch.ones(1, TOKENS, TOKENS, dtype=F64) * 0.2, h) + h,
    "expand": lambda h: h + h[:, 3:4].expand(1, TOKENS, WIDTH),
}


def mixed(name):
    return lambda h: apart(MIXES[name](apart(h)))


def enclosed(function, x):
    with under_way(inside=True, third=True) as state, torch.no_grad():
        return value_of(function(x)), len(state.refined)


def cell(seed):
    return random_enclosure((1, TOKENS, WIDTH), torch.Generator().manual_seed(seed), error=1e-4)


def worst(function, x, tau, k):
    """The entries at the ends of their errors at which output k is largest to first order."""
    middle = place(x, tau).requires_grad_()
    (gradient,) = torch.autograd.grad(function(middle).flatten()[k], middle)
    return middle.detach() + gradient.nan_to_num().sign() * x.error


@pytest.mark.parametrize("name", ["apart", *MIXES])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_worst_point_escapes_what_is_traced_back_in_groups(name, seed, monkeypatch):
    monkeypatch.setattr(adjoint, "INNER_ROWS", WIDTH)
    function, x = apart if name == "apart" else mixed(name), cell(seed)
    sharp, places = enclosed(function, x)
    assert places >= 2
    for k in range(0, TOKENS * WIDTH, 3):
        for tau in (-1.0, 0.3, 1.0):
            tau = torch.tensor(tau, dtype=F64)
            assert_inside(sharp, tau, function(worst(function, x, tau, k)), slack=1e-12)


def heads(product):
    """A norm of every head of a token, after a product that mixes the heads; traced back together, the two would cancel."""
    generator = torch.Generator().manual_seed(1)
    one, half = torch.randn(6, 6, generator=generator, dtype=F64), torch.randn(6, 3, generator=generator, dtype=F64)
    matrix = torch.cat([half, -half], 1)

    def function(h):
        h = h + torch.tanh(F.linear(h, one))
        h = F.linear(h, matrix.T) if product == "linear" else h @ matrix
        return F.layer_norm(h.view(1, TOKENS, 2, 3), (3,))

    return function


@pytest.mark.parametrize("product", ["linear", "matmul"])
def test_no_worst_point_escapes_where_products_mix_parts_of_a_token(product, monkeypatch):
    monkeypatch.setattr(adjoint, "INNER_ROWS", 3)
    monkeypatch.setattr(adjoint, "_pays", lambda *_: True)
    function, x = heads(product), random_enclosure((1, TOKENS, 6), torch.Generator().manual_seed(0), error=1e-4)
    sharp, places = enclosed(function, x)
    assert places == 1
    for k in range(TOKENS * 6):
        for tau in (-1.0, 0.3, 1.0):
            tau = torch.tensor(tau, dtype=F64)
            assert_inside(sharp, tau, function(worst(function, x, tau, k)), slack=1e-12)


def test_tokens_apart_give_what_every_entry_alone_gives(monkeypatch):
    x = cell(0)
    alone, places = enclosed(apart, x)
    monkeypatch.setattr(adjoint, "INNER_ROWS", WIDTH)
    together, others = enclosed(apart, x)
    monkeypatch.setattr(adjoint, "GROUP_ENTRIES", 0)
    forward, none = enclosed(apart, x)
    assert places >= others > none == 0
    torch.testing.assert_close(together.error, alone.error, rtol=0.05, atol=0)
    assert together.error.amax() < forward.error.amax() / 2


def test_entries_are_not_traced_in_groups_where_no_products_are_met(monkeypatch):
    monkeypatch.setattr(adjoint, "INNER_ROWS", WIDTH)
    assert enclosed(lambda h: F.layer_norm(h + 1, (WIDTH,)), cell(0))[1] == 0
    assert enclosed(lambda h: F.layer_norm(h.flip(1), (WIDTH,)), cell(0))[1] == 0


def test_weights_that_have_errors_of_their_own_do_not_keep_tokens_apart():
    """A product with a matrix of as many rows as there are tokens has places in common, and mixes them."""
    ws = [random_enclosure((WIDTH, WIDTH), torch.Generator().manual_seed(i)) for i in range(2)]
    with under_way(inside=True):
        products: list[Any] = [ws[0] @ ws[1], F.linear(ws[0], ws[1])]
    assert [product.node.apart for product in products] == [1, 1]
