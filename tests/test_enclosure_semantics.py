"""Networks whose `forward` writes in place, shares memory, looks at dtypes or branches: bounded as torch computes them, or
refused with the cause, never bounded as something else."""

import pytest
import torch
import torch.nn.functional as F
from enclosure_net import F32, F64, bounded
from torch import nn


def preactivation(net, h):
    skip = h.clone()
    return nn.ReLU(inplace=True)(h) - skip


def preactivation_by_operators(net, h):
    skip = h + 0
    h *= 0.5
    return h.tanh_() - skip


def preactivation_by_contiguous(net, h):
    skip = h.reshape(-1, 2, 4).transpose(1, 2).clone().transpose(1, 2).reshape(-1, 8)
    return F.leaky_relu(h, 0.1, inplace=True) - skip


def weights_plus_one(net, h):
    w = net.w.clone()
    w += 1
    return F.linear(h, w) - F.linear(h, net.w)


def weights_cleared(net, h):
    w = net.w * 1
    z = F.linear(h, w)
    w.zero_()
    return z + F.linear(h, w)


def parameter_itself(net, h):
    z = F.linear(h, net.w)
    net.w.mul_(0.5)
    return z - F.linear(h, net.w)


def factor_cleared(net, h):
    u, v = torch.relu(h), torch.relu(-h)
    z = (u + 1) * v
    v.mul_(0.0)
    return z + v


def factor_overwritten(net, h):
    u = torch.relu(h)
    z = u * torch.sigmoid(u)
    u[:, :4] = 3.0
    u.clamp_(max=0.1)
    return z + u


def constant_factor_cleared(net, h):
    c = torch.full((8,), 2.0, dtype=h.dtype)
    index = torch.arange(7, -1, -1)
    z = torch.relu(h) * c + torch.relu(h)[:, index]
    c.fill_(0.0)
    index.zero_()
    return z + c + index


def cast_written(net, h):
    k = h.to(torch.float32)
    k.relu_()
    return h - k.to(h.dtype)


def cast_of_type(net, h):
    k = h.type(torch.float64)
    k.mul_(0.0)
    return h + k.to(h.dtype)


def cast_that_copies(net, h):
    k = h.to(h.dtype, copy=True)
    k.abs_()
    return h - k


def dtype_branch(net, h):
    return h * 3 if h.dtype == torch.float32 else h


def dtype_of_a_constant(net, h):
    table = torch.arange(8, dtype=h.dtype) / 3
    return h * table if table.dtype == torch.float32 else h - table


def dtype_of_a_product(net, h):
    k = h * torch.ones(8, dtype=torch.float64)
    return (k * (5 if k.dtype == h.dtype else 2)).to(h.dtype)


def itemsize(net, h):
    return h * h.element_size()


def buffers_written(net, h):
    net.mask.add_(1)
    net.count += 1
    return h * net.mask * net.count


def fresh_memory(net, h):
    """Into what `torch.zeros` and the like give."""
    c, rows = torch.zeros(h.shape[0], 8, dtype=h.dtype), torch.empty(h.shape, dtype=h.dtype)
    c += h
    rows[:, :4] = h[:, 4:].tanh()
    rows[:, 4:] = torch.ones(4, dtype=h.dtype)
    kept = rows.clone()
    rows.zero_()
    return c.relu_() + kept + rows


def complex_pairs(net, h):
    """Complex factors, and a write into the real tensor after it was read."""
    own = h * 1
    turned = torch.view_as_complex(own.view(-1, 4, 2)) * torch.polar(torch.ones(4), torch.arange(4.0)).to(torch.complex64)
    result = torch.view_as_real(turned).flatten(1).to(h.dtype)
    turned = None
    return result.clone().relu_() + own


FOLLOWED = [
    fresh_memory, complex_pairs,
    preactivation, preactivation_by_operators, preactivation_by_contiguous, weights_plus_one, weights_cleared, parameter_itself,
    factor_cleared, factor_overwritten, constant_factor_cleared, cast_written, cast_of_type, cast_that_copies, dtype_branch,
    dtype_of_a_constant, dtype_of_a_product, itemsize, buffers_written,
]  # fmt: skip

REDUCTIONS = {
    "logsumexp": lambda net, h: h.view(-1, 2, 2, 2).logsumexp((2, 3)).repeat(1, 4),
    "logsumexp of all": lambda net, h: torch.logsumexp(h.view(-1, 2, 4), (1, 2), keepdim=True).flatten(1).expand(-1, 8),
    "logsumexp apart": lambda net, h: h.view(-1, 2, 2, 2).logsumexp([-1, 1]).repeat(1, 4),
    "amax": lambda net, h: h.view(-1, 2, 2, 2).amax((2, 3)).repeat(1, 4),
    "sum": lambda net, h: h.view(-1, 2, 2, 2).sum((1, 3)).repeat(1, 4) / 4,
    "softmax of none": lambda net, h: F.softmax(h),
    "einsum": lambda net, h: torch.einsum("ij,kj", h, net.w),
    "gpt": lambda net, h: h.view(-1, 2, 4).transpose(1, 2).contiguous().view(-1, 8),
    "buffer compared": lambda net, h: h.masked_fill(net.mask == 0, -1.0),
    "buffer branched on": lambda net, h: h * (2 if net.mask.sum() > 3 else 1) * float(net.mask[2]),
    "slots": lambda net, h: _slots(h),
}


def _slots(h):
    k = torch.zeros_like(h)
    k[:, 1:] = h[:, :-1]
    k[:, 0] = 0.5
    return torch.relu(k)


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("way", FOLLOWED, ids=lambda way: way.__name__)
def test_writes_and_dtypes_are_those_of_torch(way, dtype):
    bound, most = bounded(way, dtype)
    assert most - 1e-5 * (1 + most) <= bound <= 1.3 * most + 0.5


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_and_idioms_that_were_false_or_crashed_are_bounded(name):
    bound, most = bounded(REDUCTIONS[name])
    assert most <= bound * (1 + 1e-12) <= 1.3 * most + 0.5


def one_hot(y):
    return F.one_hot(y, 3).double()


LOSSES = {
    "mse size_average": lambda o, y: F.mse_loss(o, one_hot(y), size_average=False) / len(y),
    "l1 size_average": lambda o, y: F.l1_loss(o, one_hot(y), size_average=False) / len(y),
    "entropy size_average": lambda o, y: F.cross_entropy(o, y, size_average=False) / len(y),
    "entropy reduce": lambda o, y: F.cross_entropy(o, y, reduce=False).mean(),
    "bce reduce": lambda o, y: F.binary_cross_entropy_with_logits(o, one_hot(y), reduce=False).sum() / len(y),
}


@pytest.mark.filterwarnings("ignore:size_average and reduce")
@pytest.mark.parametrize("name", LOSSES)
def test_the_old_arguments_of_losses_are_heard(name):
    bound, most = bounded(lambda net, h: torch.relu(h), loss=LOSSES[name])
    assert most <= bound * (1 + 1e-12) <= 1.3 * most + 0.5
