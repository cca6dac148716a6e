"""Networks whose `forward` writes in place, shares memory, looks at dtypes or branches: bounded as torch computes them, or
refused with the cause, never bounded as something else."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

import dss
from dss.base.errors import EnclosureError
from dss.enclosure import enclose

F32, F64 = torch.float32, torch.float64
X = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 1, 0])
TOKENS = torch.randint(8, (5, 4), generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A layer, `way` through what comes after it, and a head."""

    def __init__(self, way):
        super().__init__()
        torch.manual_seed(0)
        self.way, self.w, self.head = way, nn.Parameter(torch.randn(8, 8) * 0.7), nn.Linear(8, 3)
        self.register_buffer("mask", torch.tensor([1.0, 0, 1, 0, 1, 1, 1, 0]))
        self.register_buffer("count", torch.tensor(3))

    def forward(self, x):
        return self.head(self.way(self, F.linear(x, self.w) if x.is_floating_point() else x))


def bounded(way, dtype=F64, loss=F.cross_entropy, x=X, y=Y, width=0.3):
    """The bound of a cell, and the largest loss of the network itself at 21 places of it."""
    net = Net(way).to(dtype).eval()
    x = x.to(dtype) if x.is_floating_point() else x
    draw = torch.Generator().manual_seed(1)
    start = {n: p.detach()[None] for n, p in net.named_parameters()}
    end = {n: p + 0.3 * torch.randn(p.shape, generator=draw).to(dtype) for n, p in start.items()}
    before = {n: b.clone() for n, b in net.named_buffers()}
    zero = torch.zeros(1, dtype=F64)
    bound = enclose(net, loss, start, end, zero, zero + width, x, y).amax().item()
    assert all(torch.equal(b, before[n]) for n, b in net.named_buffers()), "the model's own buffers were written into"
    losses = []
    for t in torch.linspace(0, width, 21, dtype=F64).tolist():
        point = {n: torch.lerp(start[n][0], end[n][0], t) for n in start} | {n: b.clone() for n, b in before.items()}
        with torch.no_grad():
            losses.append(loss(functional_call(net, point, (x.clone(),)), y).item())
    return bound, max(losses)


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


@pytest.mark.parametrize("name", ["autograd function", "view", "swallowed refusal", "branch on tokens"])
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
