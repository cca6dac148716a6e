"""Every operation that can be enclosed, with random options: what the soundness campaign and its tests are made of.

An operation is drawn for the shape of one sample: `OPERATIONS[name](draw, shape)` gives a `Step`, or None if the operation
does not take such tensors. A step is a function of a batch of samples and of the parameters whose shapes it names.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int, ...]
Function = Callable[..., Tensor]


@dataclass(frozen=True)
class Step:
    """`function(h, *parameters)` for `h` `(batch, *shape)`; `rounds` says that it rounds to float32 on its way."""

    function: Function
    parameters: tuple[Shape, ...] = ()
    rounds: bool = False


class Draw(random.Random):
    """Random choices of one network."""

    def tensor(self, *shape: int) -> Tensor:
        """A constant in float32, as a forward would make it."""
        return torch.randn(shape, generator=torch.Generator().manual_seed(self.getrandbits(62)))

    def whole(self, most: int, *shape: int) -> Tensor:
        """Indices below `most`."""
        return torch.randint(most, shape, generator=torch.Generator().manual_seed(self.getrandbits(62)))

    def mask(self, *shape: int) -> Tensor:
        """Booleans."""
        return self.tensor(*shape) > 0


Maker = Callable[[Draw, Shape], Step | None]
OPERATIONS: dict[str, Maker] = {}


def operation(name: str, *dims: int) -> Callable[[Maker], Maker]:
    """Register the maker of an operation on samples of so many dimensions; any by default."""

    def register(maker: Maker) -> Maker:
        OPERATIONS[name] = lambda draw, shape: maker(draw, shape) if not dims or len(shape) in dims else None
        return maker

    return register


def several(functions: dict[str, Function], *dims: int, rounds: bool = False) -> None:
    """Register functions of the batch alone."""
    for name, function in functions.items():
        OPERATIONS[name] = lambda draw, shape, f=function: Step(f, (), rounds) if not dims or len(shape) in dims else None


def last(draw: Draw, shape: Shape) -> int:
    """A dimension of the batch that is not that of the samples, from either end."""
    dim = draw.randrange(1, len(shape) + 1)
    return draw.choice((dim, dim - len(shape) - 1))


def like(x: Tensor, h: Tensor) -> Tensor:
    """A constant in the dtype of `h`."""
    return x.to(h.dtype)


# Functions of every entry, with room for their domains.
several({
    "relu": F.relu, "torch.relu": torch.relu, "abs": torch.abs, "absolute": torch.absolute, "builtin abs": abs,
    "sigmoid": torch.sigmoid, "tanh": torch.tanh, "gelu": F.gelu, "silu": F.silu, "erf": torch.erf, "logsigmoid": F.logsigmoid,
    "gelu tanh": partial(F.gelu, approximate="tanh"), "relu6": F.relu6, "hardtanh": F.hardtanh, "exp": lambda h: torch.exp(h / 2),
    "square": torch.square, "multiply": lambda h: torch.multiply(h, 0.3), "negative": torch.negative, "neg": lambda h: -h,
    "log": lambda h: torch.log(h * h + 0.5), "sqrt": lambda h: (h.abs() + 0.2).sqrt(), "rsqrt": lambda h: torch.rsqrt(h * h + 0.3),
    "reciprocal": lambda h: torch.reciprocal(h * h + 0.5), "rdiv": lambda h: 2 / (h.abs() + 1), "rsub": lambda h: 1 - h,
    "rsub method": lambda h: torch.rsub(h, 0.5), "radd": lambda h: 0.5 + h, "rmul": lambda h: 0.5 * h, "positive": lambda h: +h,
    "subtract": lambda h: torch.subtract(h, 0.25), "divide": lambda h: torch.divide(h, 3), "true_divide": lambda h: torch.true_divide(h, -2),
    "power 3": lambda h: h**3 / 4, "power -2": lambda h: (h.abs() + 1) ** -2, "power 1.5": lambda h: (h * h + 0.1) ** 0.75,
    "detach": lambda h: h.detach(), "clone": lambda h: h.clone(), "contiguous": lambda h: h.contiguous(),
    "dropout": lambda h: F.dropout(h, 0.5, False), "alpha_dropout": lambda h: F.alpha_dropout(h, 0.5, False), "cpu": lambda h: h.cpu(),
    "feature dropout": lambda h: F.feature_alpha_dropout(h, 0.5, False), "flatten": lambda h: h.flatten(1), "ravel": lambda h: h.ravel().view(h.shape),
    "data": lambda h: h.data, "requires_grad_": lambda h: h.requires_grad_(False), "type": lambda h: h.type(h.dtype), "type_as": lambda h: h.type_as(h),
})  # fmt: skip
several({
    "elu": F.elu, "elu 0.5": partial(F.elu, alpha=0.5), "selu": F.selu, "celu": partial(F.celu, alpha=2.0), "mish": F.mish, "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid, "softsign": F.softsign, "tanhshrink": F.tanhshrink, "threshold": lambda h: F.threshold(h, 0.1, 0.1),
    "log1p": lambda h: torch.log1p(h * h), "expm1": lambda h: torch.expm1(h / 2), "sin": torch.sin, "cos": lambda h: torch.cos(2 * h), "atan": torch.atan,
    "arctan": torch.arctan, "exp2": lambda h: torch.exp2(h / 2), "rpow": lambda h: 2 ** (h / 2), "log2": lambda h: torch.log2(h * h + 1), "erfc": torch.erfc,
    "log10": lambda h: torch.log10(h * h + 1), "clamp_min": lambda h: h.clamp_min(-0.2), "clamp_max": lambda h: torch.clamp_max(h, 0.2),
    "elu inplace": lambda h: F.elu(h * 1, inplace=True), "max all": lambda h: h - torch.stack([row.max() for row in h]).view(-1, *[1] * (h.dim() - 1)),
    "min all": lambda h: h - torch.stack([row.min() for row in h]).view(-1, *[1] * (h.dim() - 1)),
})  # fmt: skip
several(
    {
        "tril": lambda h: torch.tril(h),
        "triu": lambda h: h.triu(1),
        "linalg_vector_norm": lambda h: torch.linalg.vector_norm(h, dim=-1),
        "glu": lambda h: F.glu(torch.cat([h, -h], -1)),
    },
    2,
    3,
)
several({"to float32": lambda h: h.to(torch.float32).to(h.dtype), "float": lambda h: h.float().to(h.dtype), "double": lambda h: h.double().to(h.dtype),
         "write after a cast": lambda h: _write_after_cast(h)}, rounds=True)  # fmt: skip
several({"pixel_shuffle": lambda h: F.pixel_shuffle(torch.cat([h] * 4, 1), 2), "dropout2d": lambda h: F.dropout2d(h, 0.5, False),
         "dropout3d": lambda h: F.dropout3d(h[:, :, None], 0.5, False)[:, :, 0]}, 3)  # fmt: skip
several({"T": lambda h: torch.stack([row.T for row in h]), "mT": lambda h: h.mT, "t": lambda h: torch.stack([row.t() for row in h]),
         "diagonal": lambda h: h.diagonal(dim1=1, dim2=2), "swapaxes": lambda h: h.swapaxes(1, 2), "swapdims": lambda h: torch.swapdims(h, -1, -2),
         "dropout1d": lambda h: F.dropout1d(h, 0.5, False), "movedim": lambda h: h.movedim(1, -1), "gpt": lambda h: h.transpose(1, 2).contiguous().view(len(h), -1)}, 2)  # fmt: skip


def _write_after_cast(h: Tensor) -> Tensor:
    k = h.to(torch.float32)
    k.relu_()
    return h - k.to(h.dtype)


@operation("leaky_relu")
def _(draw, shape):
    return Step(partial(F.leaky_relu, negative_slope=draw.choice((0.0, 0.01, 0.3, 1.5, -0.2)), inplace=False))


@operation("clamp")
def _(draw, shape):
    low, high = draw.choice(((-0.5, 0.3), (None, 0.2), (-0.1, None), (0.4, -0.4)))
    function = draw.choice((torch.clamp, torch.clip))
    return Step(lambda h: function(h, low, high))


@operation("softplus")
def _(draw, shape):
    return Step(partial(F.softplus, beta=draw.choice((0.5, 1.0, 3.0)), threshold=draw.choice((20.0, 5.0))))


@operation("scale and shift")
def _(draw, shape):
    factor, shift = draw.uniform(-2, 2), draw.uniform(-1, 1)
    return Step(
        draw.choice(
            (lambda h: h * factor + shift, lambda h: torch.add(h, h, alpha=factor), lambda h: torch.sub(h, shift, alpha=factor))
        )
    )


@operation("sum")
def _(draw, shape):
    dim = draw.choice((last(draw, shape), tuple(range(1, len(shape) + 1))))
    return Step(lambda h: h.sum(dim, keepdim=True) / 2 + h)


@operation("mean")
def _(draw, shape):
    dim = last(draw, shape)
    return (
        Step(lambda h: h.mean(dim, keepdim=True) - h)
        if draw.random() < 0.5 or len(shape) < 2
        else Step(lambda h: torch.mean(h, dim))
    )


def _largest(function: Function, draw: Draw, shape: Shape) -> Step:
    dim, keep = last(draw, shape), draw.random() < 0.7 or len(shape) == 1
    dim = draw.choice((dim, tuple(range(1, len(shape) + 1)) if keep else dim))
    return Step(lambda h: function(h, dim, keep))


for _function in (torch.amax, torch.amin):
    OPERATIONS[_function.__name__] = partial(_largest, _function)


@operation("logsumexp")
def _(draw, shape):
    dim = draw.choice((last(draw, shape), (-1, 1) if len(shape) > 1 else 1))
    return Step(lambda h: torch.logsumexp(h, dim, True) - h)


for _name, _function in (
    ("softmax", torch.softmax),
    ("F.softmax", F.softmax),
    ("log_softmax", F.log_softmax),
    ("softmin", F.softmin),
):
    OPERATIONS[_name] = lambda draw, shape, f=_function: Step(partial(f, dim=last(draw, shape)))


for _name, _function in (("maximum", torch.maximum), ("minimum", torch.minimum)):
    OPERATIONS[_name] = lambda draw, shape, f=_function: Step(f, (draw.choice((shape, shape[-1:])),))


@operation("products")
def _(draw, shape):
    function = draw.choice(
        (torch.add, torch.mul, torch.sub, lambda h, w: h / (w * w + 1), lambda h, w: w / (h * h + 1), lambda h, w: w - h)
    )
    return Step(function, (draw.choice((shape, shape[-1:], ())),))


@operation("linear")
def _(draw, shape):
    m, bias = draw.randrange(2, 9), draw.random() < 0.7
    return Step(F.linear, ((m, shape[-1]), *(((m,),) if bias else ())))


@operation("matmul")
def _(draw, shape):
    function = draw.choice((torch.matmul, lambda h, w: h @ w, lambda h, w: (w.mT @ h.mT).mT)) if len(shape) > 1 else torch.matmul
    return Step(function, ((shape[-1], draw.randrange(2, 7)),))


@operation("constant matmul", 1, 2)
def _(draw, shape):
    constant = draw.tensor(shape[-1], 3)
    return (
        Step(lambda h, w: (like(constant, h).T @ h.mT).mT + w, ((3,),))
        if len(shape) == 2
        else Step(lambda h: h @ like(constant, h))
    )


@operation("bmm", 2)
def _(draw, shape):
    return Step(lambda h: torch.bmm(h, h.transpose(1, 2)))


@operation("addmm", 1)
def _(draw, shape):
    return Step(lambda h, b, w: torch.addmm(b, h, w, beta=0.5, alpha=-1), ((4,), (shape[0], 4)))


@operation("mv", 2)
def _(draw, shape):
    return Step(lambda h, w: torch.stack([torch.mv(row, w) for row in h]), ((shape[1],),))


@operation("dot", 1)
def _(draw, shape):
    return Step(lambda h, w: torch.stack([torch.dot(row, w) for row in h])[:, None] * h, (shape,))


@operation("mm", 1)
def _(draw, shape):
    return Step(torch.mm, ((shape[0], 3),))


@operation("baddbmm", 2)
def _(draw, shape):
    return Step(lambda h, w: torch.baddbmm(h @ h.mT, h, h.mT, beta=0.5, alpha=-0.25) * w, ((),))


@operation("einsum", 2)
def _(draw, shape):
    _, n = shape
    return draw.choice((
        Step(lambda h, w: torch.einsum("btd,de->bte", h, w), ((n, 3),)), Step(lambda h, w: torch.einsum("...d,ed", h, w), ((3, n),)),
        Step(lambda h: torch.einsum("btd->bdt", h)), Step(lambda h: torch.einsum("btd->bd", h)), Step(lambda h: torch.einsum("btd,bsd->bts", h, h)),
        Step(lambda h, w, v: torch.einsum("btd,de,e->bte", h, w, v), ((n, 3), (3,))), Step(lambda h, w: torch.einsum("btd,dd->bt", h, w), ((n, n),)),
        Step(lambda h, w: torch.einsum("b...d,...d->b...", [h, w]), ((n,),)),
    ))  # fmt: skip


@operation("embedding")
def _(draw, shape):
    index = draw.whole(5, *shape)
    return Step(lambda h, table: h + F.embedding(index, table).squeeze(-1), ((5, 1),))


@operation("conv1d", 2)
def _(draw, shape):
    channels, length = shape
    size, groups = min(draw.choice((1, 2, 3)), length), draw.choice((1, channels))
    options = {"padding": draw.choice((0, 1, "same", "valid")), "dilation": draw.choice((1, 1, 2)) if length > 4 else 1}
    stride = {} if options["padding"] == "same" else {"stride": draw.choice((1, 2))}
    return Step(
        lambda h, w, b: F.conv1d(h, w, b, groups=groups, **options, **stride),
        ((channels * 2, channels // groups, size), (channels * 2,)),
    )


@operation("conv2d", 3)
def _(draw, shape):
    channels, *sizes = shape
    window, groups = tuple(min(draw.choice((1, 2, 3)), size) for size in sizes), draw.choice((1, channels))
    options = {"padding": draw.choice((0, 1, (1, 0))), "stride": draw.choice((1, 2, (1, 2)))}
    return Step(
        lambda h, w: F.conv2d(h, w, groups=groups, **options), ((draw.choice((2, 4)) * groups, channels // groups, *window),)
    )


@operation("max_pool1d", 2)
def _(draw, shape):
    options = draw.choice(
        ({"kernel_size": 2}, {"kernel_size": 3, "stride": 1, "padding": 1}, {"kernel_size": 2, "stride": 3, "ceil_mode": True})
    )
    return Step(partial(F.max_pool1d, **options)) if shape[-1] > 2 else None


@operation("max_pool2d", 3)
def _(draw, shape):
    options = draw.choice(({"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 2, "stride": 1, "padding": 1, "dilation": 2},
                           {"kernel_size": (1, 2), "stride": (2, 1), "ceil_mode": True}, {"kernel_size": 2, "padding": 1}))  # fmt: skip
    return Step(partial(F.max_pool2d, **options)) if min(shape[1:]) > 2 else None


@operation("avg_pool1d", 2)
def _(draw, shape):
    return Step(
        partial(
            F.avg_pool1d,
            kernel_size=2,
            stride=draw.choice((1, 2)),
            padding=draw.choice((0, 1)),
            count_include_pad=draw.random() < 0.5,
        )
    )


@operation("avg_pool2d", 3)
def _(draw, shape):
    options = draw.choice(({"kernel_size": 2}, {"kernel_size": (2, 1), "stride": 1, "padding": (1, 0), "count_include_pad": False},
                           {"kernel_size": 2, "ceil_mode": True}, {"kernel_size": 2, "divisor_override": 3}))  # fmt: skip
    return Step(partial(F.avg_pool2d, **options)) if min(shape[1:]) > 1 else None


@operation("adaptive_avg_pool1d", 2)
def _(draw, shape):
    return Step(partial(F.adaptive_avg_pool1d, output_size=draw.choice((1, 2, 3))))


@operation("adaptive_avg_pool2d", 3)
def _(draw, shape):
    return Step(partial(F.adaptive_avg_pool2d, output_size=draw.choice((1, (2, 1), (None, 2), 3))))


@operation("batch_norm", 1, 2, 3)
def _(draw, shape):
    mean, var = draw.tensor(shape[0]), draw.tensor(shape[0]).square() + 0.3
    return Step(lambda h, w, b: F.batch_norm(h, like(mean, h), like(var, h), w, b, False, 0.1, 1e-3), (shape[:1], shape[:1]))


@operation("layer_norm")
def _(draw, shape):
    dims = shape[-draw.randrange(1, len(shape) + 1) :]
    return Step(lambda h, w, b: F.layer_norm(h, dims, w, b, 1e-2), (dims, dims))


@operation("group_norm", 2, 3)
def _(draw, shape):
    groups = draw.choice((1, shape[0])) if shape[-1] > 1 else 1
    return Step(lambda h, w: F.group_norm(h, groups, w, None, 1e-2), (shape[:1],))


@operation("local_response_norm", 2, 3)
def _(draw, shape):
    return Step(partial(F.local_response_norm, size=draw.choice((1, 2, 3)), alpha=0.5))


@operation("attention", 2)
def _(draw, shape):
    length, n = shape
    mask = draw.choice(
        (
            None,
            torch.ones(length, length).tril().bool(),
            torch.zeros(length, length).masked_fill(torch.ones(length, length).triu(1).bool(), -math.inf),
        )
    )
    causal = mask is None and draw.random() < 0.3

    def function(h: Tensor, w: Tensor) -> Tensor:
        q, k, v = (h @ w).chunk(3, -1)
        given = mask if mask is None or mask.dtype == torch.bool else like(mask, h)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=given, is_causal=causal)

    return Step(function, ((n, 12),))


@operation("multi_head_attention", 2)
def _(draw, shape):
    length, n = shape
    if n % 2:
        return None
    padding = torch.arange(length) >= max(1, length - 1) if draw.random() < 0.5 else None

    def function(h: Tensor, w: Tensor, b: Tensor, out: Tensor) -> Tensor:
        x = h.transpose(0, 1)
        key = None if padding is None else padding.expand(len(h), length)
        return F.multi_head_attention_forward(
            x, x, x, n, 2, w, b, None, None, False, 0.0, out, None, training=False, key_padding_mask=key
        )[0].transpose(0, 1)

    return Step(function, ((3 * n, n), (3 * n,), (n, n)))


def _recurrent(kind: str, gates: int, cell: Callable, draw: Draw, shape: Shape) -> Step:
    n, width, both = shape[1], 3, draw.random() < 0.3
    each = ((gates * width, n), (gates * width, width), (gates * width,), (gates * width,))

    def function(h: Tensor, *weights: Tensor) -> Tensor:
        start = torch.zeros(2 if both else 1, len(h), width, dtype=h.dtype)
        state = (start, start) if kind == "lstm" else start
        return cell(h, state, list(weights), True, 1, 0.0, False, both, True)[0]

    return Step(function, each * (2 if both else 1))


for _name, _gates in (("lstm", 4), ("gru", 3), ("rnn_tanh", 1), ("rnn_relu", 1)):
    operation(_name, 2)(partial(_recurrent, _name, _gates, getattr(torch._VF, _name)))


def _cell(kind: str, gates: int, draw: Draw, shape: Shape) -> Step | None:
    n, function = shape[0], getattr(torch._VF, kind)
    if n < 3:
        return None

    def step(h: Tensor, w: Tensor, u: Tensor, b: Tensor) -> Tensor:
        start = torch.tanh(h[:, :3])
        return function(h, (start, start) if kind == "lstm_cell" else start, w, u, b, b)[0 if kind == "lstm_cell" else ...]

    return Step(step, ((gates * 3, n), (gates * 3, 3), (gates * 3,)))


for _name, _gates in (("lstm_cell", 4), ("gru_cell", 3), ("rnn_tanh_cell", 1), ("rnn_relu_cell", 1)):
    operation(_name, 1)(partial(_cell, _name, _gates))


several({
    "reshape": lambda h: h.reshape(len(h), -1), "view": lambda h: h.view(h.shape[0], -1), "unsqueeze": lambda h: h.unsqueeze(1).squeeze(1),
    "reshape_as": lambda h: h.reshape_as(h) + 0, "view_as": lambda h: h.view_as(h), "expand": lambda h: h[:, None].expand(-1, 2, *h.shape[1:]).sum(1),
    "repeat": lambda h: h.repeat(*[1] * (h.dim() - 1), 2), "tile": lambda h: torch.tile(h, (2,)), "flip": lambda h: h.flip(-1),
    "roll": lambda h: torch.roll(h, 1, -1), "select": lambda h: h.select(-1, 0).unsqueeze(-1) + h, "narrow": lambda h: h.narrow(-1, 0, 1) * h,
    "cat": lambda h: torch.cat([h, -h], -1), "stack": lambda h: torch.stack([h, h * 2], -1).sum(-1), "concat": lambda h: torch.concat([h, h], 1),
    "concatenate": lambda h: torch.concatenate((h, h.abs()), dim=-1), "expand_as": lambda h: h[..., :1].expand_as(h) - h,
    "unflatten": lambda h: h.unflatten(1, (1, h.shape[1])).flatten(1, 2), "broadcast_to": lambda h: h[..., :1].broadcast_to(h.shape) + h,
    "repeat_interleave": lambda h: h.repeat_interleave(2, -1), "chunk": lambda h: h.chunk(2, -1)[0], "unbind": lambda h: sum(h.unbind(-1)).unsqueeze(-1) / 2,
    "split": lambda h: torch.split(h, [1, h.shape[-1] - 1], -1)[0] + h, "tensor_split": lambda h: h.tensor_split(2, -1)[0] * 1,
    "permute": lambda h: h.permute(0, *range(h.dim() - 1, 0, -1)), "slice": lambda h: h[..., ::2], "dots": lambda h: h[:, ...] * 1,
})  # fmt: skip


def at(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Register a function of the batch and of four indices into its last dimension."""

    def maker(draw: Draw, shape: Shape) -> Step:
        places = draw.whole(shape[-1], 4)
        return Step(lambda h: function(h, places))

    OPERATIONS[name] = maker


def masked(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Register a function of the batch and of booleans for its last dimension."""

    def maker(draw: Draw, shape: Shape) -> Step:
        mask = draw.mask(shape[-1])
        return Step(lambda h: function(h, mask))

    OPERATIONS[name] = maker


at("getitem", lambda h, places: h[..., places])
at("index_select", lambda h, places: h.index_select(-1, places))
at("gather", lambda h, places: h.gather(-1, places.expand(*h.shape[:-1], 4)))
at("take_along_dim", lambda h, places: torch.take_along_dim(h, places.expand(*h.shape[:-1], 4), -1))
masked("where", lambda h, mask: torch.where(mask, h, 0.5))
masked("where method", lambda h, mask: h.where(mask, -0.5))
masked("where both", lambda h, mask: torch.where(mask, h, -h))
masked("masked_fill", lambda h, mask: h.masked_fill(mask, 2.0))
masked("times a mask", lambda h, mask: h * mask)


@operation("pad")
def _(draw, shape):
    mode, n = draw.choice(("constant", "constant", "reflect", "replicate", "circular")), shape[-1]
    if mode == "constant":
        return Step(partial(F.pad, pad=(1, 2), value=draw.choice((0.0, 0.5))))
    return Step(lambda h: F.pad(h, (1, 0), mode=mode)) if len(shape) == 2 and n > 2 else None


# Writes and shared memory.
several({
    "relu_": lambda h: (h * 1.5).relu_(), "inplace=True": lambda h: F.relu(h - 0.1, inplace=True), "nn.ReLU": lambda h: nn.ReLU(inplace=True)(h + 0.1),
    "leaky inplace": lambda h: F.leaky_relu(h * 1, 0.2, True), "hardtanh inplace": lambda h: F.hardtanh(h * 1, -0.4, 0.6, True), "silu inplace": lambda h: F.silu(h + 0, True),
    "dropout inplace": lambda h: F.dropout(h + 0, 0.5, False, True), "torch.relu_": lambda h: torch.relu_(h.clone()),
})  # fmt: skip


def writes(function: Callable[[Tensor], Tensor | None]) -> None:
    """Register a function that writes into a fresh tensor, or is refused."""
    OPERATIONS["write: " + function.__name__.strip("_")] = lambda draw, shape: Step(function)


@writes
def _preactivation(h: Tensor) -> Tensor:
    skip = h.clone()
    return F.relu_(h) - skip


@writes
def _arithmetic(h: Tensor) -> Tensor:
    k = h + 1
    k += h
    k -= 0.5
    k *= h
    k /= 2
    k **= 2
    return k.sub_(0.1).add_(h, alpha=0.3).mul_(0.5).div_(2).neg_()


@writes
def _factor_after_its_product(h: Tensor) -> Tensor:
    u, v = torch.relu(h), torch.tanh(h)
    z = u * v
    v.mul_(0.0)
    u.fill_(0.5)
    return z + v + u


@writes
def _constant_after_its_product(h: Tensor) -> Tensor:
    c = torch.full_like(h[:1], 1.5)
    plain = torch.ones(h.shape[-1], dtype=h.dtype)
    z = torch.relu(h) * c * plain
    c.zero_()
    plain.fill_(7.0)
    return z + c


@writes
def _items(h: Tensor) -> Tensor:
    k = torch.relu(h) + 0
    k[..., 0] = 0.3
    k[:, :1] = h[:, :1] * 2
    return k


@writes
def _scratch(h: Tensor) -> Tensor:
    k = torch.zeros_like(h)
    k[..., 1:] = h[..., :-1]
    k[..., :1].clone().fill_(3.0)
    return k + h.new_ones(h.shape[-1])


@writes
def _copies(h: Tensor) -> Tensor:
    k = h.new_zeros(h.shape)
    return k.copy_(torch.tanh(h)).clamp_(-0.5, 0.5).masked_fill_(torch.arange(h.shape[-1]) == 0, 0.1)


@writes
def _view_of_what_is_gone(h: Tensor) -> Tensor:
    return (h * 2).flatten(1).relu_().view(h.shape)


@writes
def _view_that_is_held(h: Tensor) -> Tensor:
    k = h * 2
    v = k.view(len(h), -1)
    v.relu_()
    return k


@writes
def _part_that_is_held(h: Tensor) -> Tensor:
    k = h * 2
    k[..., 0].relu_()
    return k


@writes
def _detached(h: Tensor) -> Tensor:
    k = h * 2
    k.detach().clamp_(min=0)
    return k


@writes
def _cast_that_is_none(h: Tensor) -> Tensor:
    k = h * 2
    k.to(h.dtype).relu_()
    return k


@writes
def _contiguous(h: Tensor) -> Tensor:
    k = h * 2
    k.contiguous().relu_()
    return k


# Branches that are the network's own.
several({
    "branch on dtype": lambda h: h * 3 if h.dtype == torch.float64 else h, "branch on shape": lambda h: h * 2 if h.shape[-1] > 3 else -h,
    "branch on floating": lambda h: h if h.is_floating_point() else h * 0, "branch on a constant": lambda h: h * 2 if (torch.arange(h.shape[-1]) > 2).any() else h,
    "mask of a constant": lambda h: h.masked_fill(h.new_ones(h.shape[-1]).cumsum(0) > 2, 0.3),
})  # fmt: skip


# Of the networks that people have: norms, running sums, other convolutions.
@operation("prelu")
def _(draw, shape):
    return Step(F.prelu, ((draw.choice((1, shape[0])),),))


@operation("lerp")
def _(draw, shape):
    return Step(draw.choice((lambda h, w: torch.lerp(h, w, 0.3), lambda h, w: torch.lerp(w, h, torch.sigmoid(h)))), (shape,))


@operation("logaddexp")
def _(draw, shape):
    return Step(torch.logaddexp, (shape,))


@operation("addcmul")
def _(draw, shape):
    return Step(lambda h, w: torch.addcmul(h, h, w, value=0.5), (shape[-1:],))


@operation("addcdiv")
def _(draw, shape):
    return Step(lambda h, w: torch.addcdiv(h, w, h * h + 1, value=-0.5), (shape[-1:],))


def _along(function: Function, draw: Draw, shape: Shape) -> Step:
    dim = last(draw, shape)
    return Step(lambda h: h - function(h, dim, keepdim=True)[0])


for _name, _function in (("max", torch.max), ("min", torch.min)):
    OPERATIONS[_name + " of two"] = lambda draw, shape, f=_function: Step(f, (shape,))
    OPERATIONS[_name + " along"] = partial(_along, _function)


@operation("norm")
def _(draw, shape):
    p, dim = draw.choice((2, 1, math.inf, 3, 4)), last(draw, shape)
    return Step(lambda h: (h.abs() + 0.1).norm(p, dim, keepdim=True) + h)


@operation("normalize")
def _(draw, shape):
    dim = last(draw, shape)
    return Step(lambda h: F.normalize(h, dim=dim))


@operation("cosine_similarity")
def _(draw, shape):
    return Step(lambda h, w: F.cosine_similarity(h, w.expand_as(h), dim=-1).unsqueeze(-1) * h, (shape,))


@operation("var")
def _(draw, shape):
    function = draw.choice(
        (
            lambda h: h.var(-1, keepdim=True),
            lambda h: torch.var(h, -1, correction=0, keepdim=True),
            lambda h: h.var(-1, False, True),
        )
    )
    return Step(lambda h: function(h) + h) if shape[-1] > 1 else None


@operation("std")
def _(draw, shape):
    return Step(lambda h: h.std(-1, keepdim=True) + h) if shape[-1] > 1 else None


@operation("rms_norm")
def _(draw, shape):
    eps = draw.choice((None, 1e-2))
    return Step(lambda h, w: F.rms_norm(h, shape[-1:], w, eps), (shape[-1:],))


@operation("instance_norm", 2, 3)
def _(draw, shape):
    mean, var = draw.tensor(shape[0]), draw.tensor(shape[0]).square() + 0.3
    if draw.random() < 0.3:
        return Step(lambda h, w: F.instance_norm(h, like(mean, h), like(var, h), w, w, False), (shape[:1],))
    return Step(lambda h, w: F.instance_norm(h, weight=w, bias=w, eps=1e-2), (shape[:1],)) if math.prod(shape[1:]) > 1 else None


@operation("cumsum")
def _(draw, shape):
    dim = last(draw, shape)
    return Step(lambda h: torch.cumsum(h, dim) / 2)


@operation("prod")
def _(draw, shape):
    dim = last(draw, shape)
    return Step(lambda h: h.prod(dim, keepdim=True) + h)


@operation("index_add")
def _(draw, shape):
    index = draw.whole(shape[-1], 3)
    return Step(lambda h, w: h.index_add(-1, index, w.expand(*h.shape[:-1], 3), alpha=-0.5), ((3,),))


@operation("scatter_add")
def _(draw, shape):
    index = draw.whole(shape[-1], *shape)
    return Step(lambda h: h.scatter_add(-1, index.expand_as(h), torch.tanh(h)))


@operation("bilinear", 1, 2)
def _(draw, shape):
    return Step(lambda h, w, b: F.bilinear(h, h, w, b), ((3, shape[-1], shape[-1]), (3,)))


@operation("unfold", 3)
def _(draw, shape):
    return Step(lambda h: F.unfold(h, 2, padding=1)) if min(shape[1:]) > 1 else None


@operation("interpolate", 2, 3)
def _(draw, shape):
    mode = draw.choice(("nearest", "linear" if len(shape) == 2 else "bilinear", "nearest-exact", "area"))
    options = {"align_corners": draw.choice((True, False))} if mode in ("linear", "bilinear") else {}
    return Step(partial(F.interpolate, scale_factor=draw.choice((2, 1.5)), mode=mode, **options))


@operation("conv_transpose1d", 2)
def _(draw, shape):
    options = draw.choice(({}, {"stride": 2}, {"stride": 2, "padding": 1, "output_padding": 1}))
    return Step(lambda h, w, b: F.conv_transpose1d(h, w, b, **options), ((shape[0], 3, 2), (3,)))


@operation("conv_transpose2d", 3)
def _(draw, shape):
    groups = draw.choice((1, shape[0]))
    options = draw.choice(({}, {"stride": 2}, {"padding": 1, "dilation": 2}))
    return Step(lambda h, w: F.conv_transpose2d(h, w, groups=groups, **options), ((shape[0], 1, 2, 2),))


def _volume(function: Function, draw: Draw, shape: Shape) -> Step | None:
    return Step(lambda h, w: function(h[:, None], w).flatten(1, 2), ((1, 1, 2, 2, 2),)) if min(shape) > 1 else None


for _name, _function in {
    "conv3d": F.conv3d, "conv_transpose3d": F.conv_transpose3d, "max_pool3d": lambda h, w: F.max_pool3d(h, 2, 1, 1) * w[..., :1, :1, :1],
    "avg_pool3d": lambda h, w: F.avg_pool3d(h, 2, 1) + w[..., :1, :1, :1], "adaptive_avg_pool3d": lambda h, w: F.adaptive_avg_pool3d(h, (1, 2, 2)) * w[..., :1, :1, :1],
}.items():  # fmt: skip
    operation(_name, 3)(partial(_volume, _function))


@operation("adaptive_max_pool1d", 2)
def _(draw, shape):
    return Step(partial(F.adaptive_max_pool1d, output_size=draw.choice((1, 2, 3))))


@operation("adaptive_max_pool2d", 3)
def _(draw, shape):
    return Step(partial(F.adaptive_max_pool2d, output_size=draw.choice((1, (2, 1), (None, 2)))))


@operation("weight_norm", 1)
def _(draw, shape):
    return Step(lambda h, v, g: F.linear(h, torch._weight_norm(v, g, 0)), ((4, shape[0]), (4, 1)))


@operation("lstm projected", 2)
def _(draw, shape):
    def function(h: Tensor, *weights: Tensor) -> Tensor:
        h0, c0 = torch.zeros(1, len(h), 2, dtype=h.dtype), torch.zeros(1, len(h), 3, dtype=h.dtype)
        return torch._VF.lstm(h, (h0, c0), list(weights), True, 1, 0.0, False, False, True)[0]

    return Step(function, ((12, shape[1]), (12, 2), (12,), (12,), (2, 3)))


@writes
def _sums_in_place(h: Tensor) -> Tensor:
    k = torch.zeros_like(h)
    k.index_add_(-1, torch.zeros(h.shape[-1], dtype=torch.long), h)
    return k.scatter_add_(-1, torch.zeros(h.shape, dtype=torch.long), torch.tanh(h)).clamp_min_(-1).sin_()
