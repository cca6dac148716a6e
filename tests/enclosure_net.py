"""A small network whose `forward` takes a given way, and its bound."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

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
