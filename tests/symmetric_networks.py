"""Small networks that tie, split, pack, nest or scramble their units in every way that people do.

For each the sizes of its groups, worked out by hand: `n` for a group by itself, `(h, n)` for n units within each of h.
"""

import torch
import torch.nn.functional as F
from torch import nn


class Dense(nn.Module):
    """Every layer reads all layers before it."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3 + 4 * i, 4, 3, padding=1) for i in range(3))
        self.norm, self.head = nn.BatchNorm2d(15), nn.Linear(15, 3)

    def forward(self, x):
        for layer in self.layers:
            x = torch.cat([x, F.relu(layer(x))], 1)
        return self.head(self.norm(x).mean((2, 3)))


class Grouped(nn.Module):
    """A depthwise convolution, one in groups, and a normalisation over the same groups."""

    def __init__(self):
        super().__init__()
        self.first, self.depthwise = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, groups=6)
        self.second, self.grouped = nn.Conv2d(6, 8, 1), nn.Conv2d(8, 12, 3, groups=4)
        self.norm, self.head = nn.GroupNorm(4, 12), nn.Linear(48, 3)

    def forward(self, x):
        x = self.second(F.relu6(self.depthwise(F.relu(self.first(x)))))
        return self.head(F.relu(self.norm(self.grouped(x))).flatten(1))


class SwiGLU(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.up, self.gate = nn.Linear(5, 7), nn.Linear(7, 12), nn.Linear(7, 12)
        self.down, self.head = nn.Linear(12, 7), nn.Linear(7, 3)

    def forward(self, x):
        x = self.embed(x)
        return self.head(x + self.down(F.silu(self.gate(x)) * self.up(x)))


class GLU(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(5, 14), nn.Linear(7, 3)

    def forward(self, x):
        return self.head(F.glu(self.first(x)))


class Attention(nn.Module):
    """Three heads of four features; `packing` says how q, k and v share one layer."""

    def __init__(self, packing):
        super().__init__()
        self.packing = packing
        self.embed, self.qkv, self.out, self.head = nn.Linear(5, 12), nn.Linear(12, 36), nn.Linear(12, 12), nn.Linear(12, 3)
        self.register_buffer("slopes", torch.tensor([0.5, 0.25, 0.125]))

    def unpacked(self, x):
        n, t, _ = x.shape
        if self.packing == "reshape":
            return x.reshape(n, t, 3, 3, 4).permute(2, 0, 3, 1, 4).unbind(0)
        if self.packing == "heads first":
            return [x.view(n, t, 3, 3, 4)[..., i, :].transpose(1, 2) for i in range(3)]
        if self.packing == "chunk":
            return [part.view(n, t, 3, 4).transpose(1, 2) for part in x.chunk(3, -1)]
        return [part.transpose(1, 2) for part in x.view(n, t, 3, 12).split(4, -1)]

    def forward(self, x):
        x = self.embed(x)
        q, k, v = self.unpacked(self.qkv(x))
        scores = q @ k.transpose(-1, -2)
        if self.packing == "chunk":
            scores = scores + self.slopes[:, None, None] * torch.arange(x.shape[1])
        mixed = (torch.softmax(scores, -1) @ v).transpose(1, 2).reshape(x.shape)
        return self.head((x + self.out(mixed)).mean(1))


class Decoder(nn.Module):
    """Self-attention and attention to another sequence."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.TransformerDecoderLayer(8, 2, 6, batch_first=True), nn.Linear(8, 3)

    def forward(self, x, memory):
        return self.head(self.layer(x, memory).mean(1))


class PaddedShortcut(nn.Module):
    """A shortcut that subsamples and pads channels with zeros (He et al. 2016, option A)."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, 2, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = F.relu(self.first(x))
        return self.head(F.relu(self.second(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))).mean((2, 3)))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.deep = nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1)
        self.up, self.wide, self.out = nn.ConvTranspose2d(6, 4, 2, 2), nn.ConvTranspose2d(8, 5, 2, 2), nn.Conv2d(5, 1, 1)

    def forward(self, x):
        skip = F.relu(self.down(x))
        return self.out(F.relu(self.wide(torch.cat([F.relu(self.up(F.relu(self.deep(skip)))), skip], 1))))


class TiedAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.inner, self.outer = (nn.Parameter(torch.randn(s)) for s in ((5, 9), (5,), (9,)))

    def forward(self, x):
        return torch.sigmoid(F.linear(torch.tanh(F.linear(x, self.weight, self.inner)), self.weight.t(), self.outer))


class LowRank(nn.Module):
    """A product of parameters added to a weight."""

    def __init__(self):
        super().__init__()
        self.base, self.head = nn.Linear(5, 6), nn.Linear(6, 2)
        self.a, self.b = nn.Parameter(torch.randn(3, 5)), nn.Parameter(torch.randn(6, 3))

    def forward(self, x):
        return self.head(torch.relu(F.linear(x, self.base.weight + self.b @ self.a, self.base.bias)))


class Positions(nn.Module):
    """A table longer than the sequence, and a layer that is never called."""

    def __init__(self):
        super().__init__()
        self.table, self.embed, self.unused, self.head = (
            nn.Parameter(torch.randn(9, 6)), nn.Linear(4, 6), nn.Linear(7, 8), nn.Linear(6, 2),
        )  # fmt: skip

    def forward(self, x):
        return self.head(torch.relu(self.embed(x) + self.table.t()[:, : x.shape[1]].t()).mean(1))


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.norm, self.head = nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 2)
        self.tokens = nn.Sequential(nn.Linear(6, 10), nn.GELU(), nn.Linear(10, 6))
        self.channels = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))

    def forward(self, x):
        x = self.embed(x)
        x = x + self.tokens(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return self.head((x + self.channels(x)).mean(1))


class Einsum(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(5, 6), nn.Linear(6, 2)
        self.q, self.k, self.v, self.o = (nn.Parameter(torch.randn(s)) for s in ((6, 2, 4), (6, 2, 4), (6, 2, 3), (2, 3, 6)))

    def forward(self, x):
        x = self.embed(x)
        q, k, v = (torch.einsum("bne,ehd->bhnd", x, w) for w in (self.q, self.k, self.v))
        weights = torch.softmax(torch.einsum("bhnd,bhmd->bhnm", q, k), -1)
        return self.head((x + torch.einsum("bhnm,bhmd,hde->bne", weights, v, self.o)).mean(1))


class Ensemble(nn.Module):
    """Three networks side by side: each orders its own units."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(3, 5, 4)), nn.Parameter(torch.randn(3, 4, 2))

    def forward(self, x):
        return (torch.relu(x @ self.first) @ self.second).mean(0)


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(5, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)) for _ in range(3))

    def forward(self, x):
        return (torch.stack([expert(x) for expert in self.experts], -1) * torch.softmax(self.gate(x), -1)[:, None]).sum(-1)


class Competing(nn.Module):
    """A softmax over heads at equal features: every feature may order its heads by itself."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(5, 12), nn.Linear(12, 2)

    def forward(self, x):
        x = self.embed(x).view(-1, 3, 4)
        return self.head((torch.softmax(x, 1) * x).flatten(1))


class Recurrent(nn.Module):
    def __init__(self, cell, **options):
        super().__init__()
        self.cell = cell(5, 4, batch_first=True, **options)
        self.head = nn.Linear(8 if options.get("bidirectional") else 4, 2)

    def forward(self, x):
        return self.head(self.cell(x)[0]).mean(1)


class InPlace(nn.Module):
    """Halves written into a buffer made in `forward`."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = nn.Linear(5, 3), nn.Linear(5, 4), nn.Linear(7, 2)

    def forward(self, x):
        both = torch.zeros(len(x), 7, dtype=x.dtype)
        both[:, :3] = self.one(x)
        both[:, 3:].copy_(self.two(x)).relu_().add_(1)
        return self.head(both)


class CumulativeSum(nn.Module):
    """An operation without a rule in the first hidden layer, none in the second."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x):
        return self.head(torch.relu(self.second(torch.cumsum(self.first(x), 1))))


class Hidden(nn.Module):
    """Turns its units around where no operation shows it."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x):
        return self.head(torch.relu(self.second(torch.as_tensor(self.first(x).numpy()[:, ::-1].copy()))))


def _normed():
    return nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(5, 6)), nn.PReLU(6), nn.RMSNorm(6), nn.Linear(6, 4), nn.Hardswish(),
        nn.BatchNorm1d(4), nn.Linear(4, 2),
    )  # fmt: skip


def _pooled():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.InstanceNorm2d(4, affine=True), nn.LeakyReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip


VECTORS, SEQUENCES, IMAGES, GREY = (3, 5), (3, 6, 5), (3, 3, 6, 6), (3, 1, 8, 8)
NETWORKS = {
    "dense": (Dense, IMAGES, [4, 4, 4]),
    "grouped": (Grouped, IMAGES, [6, 4, (4, 2), (4, 3)]),
    "swiglu": (SwiGLU, VECTORS, [7, 12]),
    "glu": (GLU, VECTORS, [7]),
    "attention, reshaped": (lambda: Attention("reshape"), SEQUENCES, [12, 3, (3, 4), (3, 4)]),
    "attention, heads first": (lambda: Attention("heads first"), SEQUENCES, [12, 3, (3, 4), (3, 4)]),
    "attention, chunks and slopes": (lambda: Attention("chunk"), SEQUENCES, [12, (3, 4), (3, 4)]),
    "attention, within heads": (lambda: Attention("split"), SEQUENCES, [12, 3, (3, 4), (3, 4)]),
    "decoder": (Decoder, ((3, 4, 8), (3, 5, 8)), [2, (2, 4), (2, 4), 2, (2, 4), (2, 4), 6]),
    "padded shortcut": (PaddedShortcut, GREY, [4, 2, 2]),
    "u-net": (UNet, GREY, [4, 6, 4, 5]),
    "tied autoencoder": (TiedAutoencoder, (3, 9), [5]),
    "low rank": (LowRank, VECTORS, [3, 6]),
    "positions": (Positions, (3, 6, 4), [6]),
    "mixer": (Mixer, SEQUENCES, [8, 10, 12]),
    "einsum": (Einsum, SEQUENCES, [6, 2, (2, 4), (2, 3)]),
    "ensemble": (Ensemble, VECTORS, [3, (3, 4)]),
    "experts": (Experts, VECTORS, [4, 4, 4]),
    "competing": (Competing, VECTORS, [(4, 3), 4]),
    "lstm": (lambda: Recurrent(nn.LSTM, num_layers=2), SEQUENCES, [4, 4]),
    "lstm, both ways": (lambda: Recurrent(nn.LSTM, bidirectional=True), SEQUENCES, [4, 4]),
    "gru": (lambda: Recurrent(nn.GRU, num_layers=2), SEQUENCES, [4, 4]),
    "in place": (InPlace, VECTORS, [3, 4]),
    "normed": (_normed, VECTORS, [6, 4]),
    "pooled": (_pooled, IMAGES, [4]),
    "unknown": (CumulativeSum, (3, 4), [5]),
    "hidden": (Hidden, (3, 4), [5]),
}


def inputs_of(shape):
    """Random inputs of a shape, or of several."""
    several = isinstance(shape[0], tuple)
    return tuple(torch.randn(s) for s in shape) if several else torch.randn(shape)
