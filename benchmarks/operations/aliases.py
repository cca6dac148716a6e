"""Operations by other names, functions that jump, and what parametrizations are made of."""

from functools import partial

import torch
import torch.nn.functional as F

from benchmarks.operations.drawing import OPERATIONS, Draw, Shape, Step, last, operation, several

several({
    "softshrink": F.softshrink, "hardshrink": partial(F.hardshrink, lambd=0.3), "threshold jump": lambda h: F.threshold(h, 0.1, -0.4),
    "threshold up": lambda h: F.threshold(h, 0.1, 0.7), "rrelu": lambda h: F.rrelu(h), "sinh": lambda h: torch.sinh(h / 3), "cosh": lambda h: torch.cosh(h / 3),
    "logit": lambda h: torch.logit(h.sigmoid()), "special_logit": lambda h: torch.special.logit(h.sigmoid(), 0.3), "logaddexp2": lambda h: torch.logaddexp2(h, -h),
    "special": lambda h: torch.special.expit(h) + torch.special.erf(h) + torch.special.erfc(h) + torch.special.expm1(h / 3) + torch.special.log1p(h * h) + torch.special.exp2(h / 2),
    "special sums": lambda h: torch.special.log_softmax(h, -1) + torch.special.softmax(h, -1) + torch.special.logsumexp(h, -1, keepdim=True), "power tensor": lambda h: h ** torch.tensor(2),
    "fliplr": torch.fliplr, "flipud": lambda h: torch.stack([torch.flipud(row) for row in h]), "hstack": lambda h: torch.hstack([h, h]), "unsafe_chunk": lambda h: torch.unsafe_chunk(h, 2, -1)[0],
    "take": lambda h: torch.stack([torch.take(row, torch.tensor([0, 2])) for row in h]), "diag_embed": lambda h: h.diag_embed().sum(-1), "moveaxis": lambda h: torch.moveaxis(h, 1, -1),
    "vstack": lambda h: torch.vstack([h, h])[: len(h)] + h, "unsafe_split": lambda h: torch.unsafe_split(h, 1, -1)[0], "softplus low": lambda h: F.softplus(h, 2.0, 0.3),
    "softplus zero": lambda h: F.softplus(h, 1.0, 0.0),
})  # fmt: skip
several({"hsplit": lambda h: torch.hsplit(torch.cat([h, h], 1), 2)[1], "var_mean": lambda h: sum(torch.var_mean(h, -1, correction=0, keepdim=True)) + h,
         "std_mean": lambda h: sum(torch.std_mean(h + torch.arange(h.shape[-1]), -1, correction=0, keepdim=True)) + h if h.shape[-1] > 1 else h}, 1, 2, 3)  # fmt: skip
several({"rot90": lambda h: h.rot90(1, (1, 2)), "inner": lambda h: torch.stack([torch.inner(row, row[:2]) for row in h]), "dstack": lambda h: torch.dstack([h, h]),
         "vsplit": lambda h: torch.vsplit(torch.cat([h, h]), 2)[0]}, 2)  # fmt: skip
several({"dsplit": lambda h: torch.dsplit(torch.cat([h, h], 2), 2)[0], "pixel_unshuffle": lambda h: F.pixel_unshuffle(F.pixel_shuffle(torch.cat([h] * 4, 1), 2), 2),
         "fold": lambda h: F.fold(F.unfold(h, 2, padding=1), h.shape[2:], 2, padding=1), "channel_shuffle": lambda h: F.channel_shuffle(torch.cat([h, h], 1), 2)}, 3)  # fmt: skip


@operation("tensordot")
def _(draw, shape):
    return Step(lambda h, w: torch.tensordot(h, w, ([-1], [-1])), ((3, shape[-1]),))


@operation("outer", 1)
def _(draw, shape):
    return Step(
        lambda h, w: torch.stack([torch.outer(row, w) + torch.addr(w[0] * torch.outer(row, w), row, w, alpha=0.5) for row in h]),
        ((3,),),
    )


@operation("kron", 2)
def _(draw, shape):
    return Step(lambda h, w: torch.kron(h, w), ((1, 2),))


@operation("linalg_vecdot")
def _(draw, shape):
    return Step(lambda h, w: torch.linalg.vecdot(h, w.expand_as(h)).unsqueeze(-1) + h, (shape[-1:],))


@operation("products by name", 2)
def _(draw, shape):
    def function(h, w, v):
        rows = (torch.addmv(v, w.T, row[0], beta=0.5) + torch.addbmm(v, row[None], w[None]) for row in h)
        both = torch.stack(
            [torch.linalg.multi_dot([row, w]) - torch.chain_matmul(row, w) * 0.5 + one for row, one in zip(h, rows)]
        )
        return torch.linalg.matmul(h, w) + both

    return Step(function, ((shape[1], 3), (3,)))


@operation("linalg_cross")
def _(draw, shape):
    def function(h, w):
        h, w = h[..., :3], w.expand(*h.shape[:-1], 3)
        return torch.linalg.cross(h, w) + torch.cross(w, h * 0.5, dim=-1)

    return Step(function, ((3,),)) if shape[-1] > 2 else None


@operation("pairwise_distance")
def _(draw, shape):
    return Step(lambda h, w: F.pairwise_distance(h, w.expand_as(h) + 3, keepdim=True) + h, (shape[-1:],))


def _of_matrix(function, draw: Draw, shape: Shape) -> Step:
    return Step(lambda h, w: h @ function(w), ((shape[-1], shape[-1]),))


for _name, _function in {
    "matrix_exp": lambda w: torch.matrix_exp(w - w.T), "linalg_inv": lambda w: torch.linalg.inv(w * 0.2 + torch.eye(len(w))),
    "inverse": lambda w: torch.inverse(w * 0.2 + torch.eye(len(w))), "linalg_solve": lambda w: torch.linalg.solve(w * 0.2 + torch.eye(len(w)), w),
    "linalg_solve right": lambda w: torch.linalg.solve(w * 0.2 + torch.eye(len(w)), w, left=False), "linalg_solve vector": lambda w: torch.linalg.solve(w * 0.2 + torch.eye(len(w)), w[0])[:, None],
}.items():  # fmt: skip
    OPERATIONS[_name] = partial(_of_matrix, _function)


@operation("softmax of shut entries")
def _(draw, shape):
    dim, low = last(draw, shape), draw.choice((float("-inf"), -1e9, torch.finfo(torch.float32).min))
    # In a row of which nothing is left, the least float and a number round to the least float: another function than that of real numbers.
    mask = draw.mask(*shape).index_fill(dim - (dim > 0), torch.tensor([0]), 0)
    added = torch.zeros(shape).masked_fill(mask, low)
    function = draw.choice(
        (
            torch.softmax,
            lambda h, dim: torch.log_softmax(h, dim).masked_fill(mask, 0.0),
            lambda h, dim: h.logsumexp(dim, True).clamp(min=-50.0),
            lambda h, dim: h.amax(dim, True).clamp(min=-50.0),
            lambda h, dim: (h - 0.5).exp() + h.sigmoid(),
        )
    )
    shut = draw.choice((lambda h: h.masked_fill(mask, low), lambda h: h + added, lambda h: torch.where(mask, low, h)))
    then = draw.choice(
        (
            lambda k, h: k,
            lambda k, h: k / 3,
            lambda k, h: k + h,
            lambda k, h: k + added,
            lambda k, h: -(k * -2),
            lambda k, h: k * (h.mean(dim, True) ** 2 + 0.5),
        )
    )
    return Step(lambda h: function(then(shut(h), h), dim))


@operation("attention with bias_k", 2)
def _(draw, shape):
    size, zero = shape[-1], draw.random() < 0.5

    def function(h, weight, bias, key, value):
        x = h.transpose(0, 1)
        mask = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
        return F.multi_head_attention_forward(x, x, x, size, 1, weight, bias, key, value, zero, 0.0, weight[:size], None, training=False, need_weights=False,
                                              attn_mask=mask)[0].transpose(0, 1)  # fmt: skip

    return Step(function, ((3 * size, size), (3 * size,), (1, 1, size), (1, 1, size)))
