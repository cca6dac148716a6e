"""Models as people write them are judged, differentiated and connected as they are: the user's own plain call is the oracle."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import vmap
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

import dss

N = 12
X = torch.randn(N, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(N) % 3
REALS = torch.randn(N, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
WORDS = torch.arange(N)[:, None] * torch.arange(1, 4) % 7
MASK = (torch.arange(5) < torch.arange(N)[:, None] % 4 + 2).long()


def net(outputs=3, inputs=4):
    return nn.Sequential(nn.Linear(inputs, 5), nn.Tanh(), nn.Linear(5, outputs))


class Masked(nn.Module):
    """Looks at the mask's values in Python, as Hugging Face's models do."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 3)

    def forward(self, input_ids, attention_mask=None):
        h = self.embed(input_ids)
        if attention_mask is None or bool(attention_mask.all()):
            return {"logits": self.head(h.mean(1))}
        weights = attention_mask[..., None].to(h.dtype)
        return {"logits": self.head((h * weights).sum(1) / weights.sum(1))}


class Branching(nn.Module):
    """Another branch where its weights say so: a function of the parameters like any."""

    def __init__(self):
        super().__init__()
        self.inner = net()

    def forward(self, x):
        h = self.inner(x)
        return h if self.inner[0].weight.sum() > 0 else 2 * h


class Physics(nn.Module):
    """A PINN: the residual of u'' + u = 0 in its forward, by two derivatives with respect to the input."""

    def __init__(self):
        super().__init__()
        self.inner = net(1, 1)

    def forward(self, x):
        with torch.enable_grad():
            x = x.requires_grad_()
            u = self.inner(x)
            (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
            (curvature,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
        return curvature + u


class Field(nn.Module):
    """Hands its input out, so that the loss can take derivatives."""

    def __init__(self):
        super().__init__()
        self.inner = net(1, 1)

    def forward(self, x):
        x = x.requires_grad_()
        return {"x": x, "u": self.inner(x)}


def residual(output, target):
    (slope,) = torch.autograd.grad(output["u"].sum(), output["x"], create_graph=True)
    return ((slope - target) ** 2).mean() + (output["u"] ** 2).mean()


class Functional(nn.Module):
    """Derivatives by torch.func, sample by sample."""

    def __init__(self):
        super().__init__()
        self.inner = net(1)

    def forward(self, x):
        return vmap(torch.func.grad(lambda one: self.inner(one)[0]))(x)[:, :1]


class Square(torch.autograd.Function):
    """As people write it: without a rule for vmap."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, slope):
        return 2 * ctx.saved_tensors[0] * slope


class Custom(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = net()

    def forward(self, x):
        return Square.apply(self.inner(x))


class Spectral(nn.Module):
    """Complex numbers on the way."""

    def __init__(self):
        super().__init__()
        self.inner = net(3, 3)
        self.register_buffer("phase", torch.polar(torch.ones(3), torch.arange(3.0)))

    def forward(self, x):
        return self.inner((torch.fft.rfft(x) * self.phase).abs())


class Recomputing(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.head = net(), nn.Linear(3, 3)

    def forward(self, x):
        return self.head(checkpoint(self.inner, x, use_reentrant=False))


class Caching(nn.Module):
    """Keeps a table that grows when it must, and a counter, both written in place."""

    def __init__(self):
        super().__init__()
        self.inner, self.table, self.calls = net(), torch.empty(0), 0

    def forward(self, x):
        self.calls += 1
        if len(self.table) < x.shape[1]:
            self.table = torch.arange(x.shape[1]).cos()
        return self.inner(x * self.table[: x.shape[1]].to(x.dtype))


class Remembering(nn.Module):
    """Keeps its activations wherever people keep them."""

    def __init__(self):
        super().__init__()
        self.inner, self.kept = net(), {"all": [], "last": None}

    def forward(self, x):
        h = self.inner[0](x)
        self.kept["all"], self.kept["last"] = [h], (h, {"deep": h * 2})
        self.features = h
        return self.inner[2](torch.tanh(h))


@dataclass
class Answer:
    """An output of a class that torch knows nothing of."""

    logits: torch.Tensor
    hidden: tuple


class Answering(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = net()

    def forward(self, x):
        return Answer(self.inner(x), (x,))


class Training(nn.Module):
    """Asks whether it trains."""

    def __init__(self):
        super().__init__()
        self.inner = net()

    def forward(self, x):
        x = F.dropout(x, 0.5, self.training)
        return self.inner(x) * (3 if self.training else 1)


def used(model):
    """The model after a pass with gradients, as training leaves it."""
    model.double()(X if not isinstance(model, (Physics, Field)) else X[:, :1]).sum()
    return model


def pruned():
    model = net().double()
    prune.l1_unstructured(model[0], "weight", 0.3)
    prune.random_structured(model[2], "weight", 0.4, dim=1)
    model(X)
    return model


def hooked():
    """Keeps activations by a hook, in the module and in a closure."""
    model, kept = net().double(), {}

    def hook(module, inputs, output):
        kept["activation"], module.seen = output, [output]

    model[0].register_forward_hook(hook)
    model(X)
    return model


def entropy(output, target):
    logits = output if isinstance(output, torch.Tensor) else output["logits"] if isinstance(output, dict) else output.logits
    return F.cross_entropy(logits, target)


def two_terms(output, target):
    return F.cross_entropy(output, target) + 0.1 * output.square().mean()


TEXT = {"input_ids": torch.arange(N * 5).view(N, 5) % 7, "attention_mask": MASK, "labels": Y}
FULL = TEXT | {"attention_mask": torch.ones_like(MASK)}
CASES = {
    "a mask that is looked at": (Masked, TEXT, entropy),
    "a mask that hides nothing": (Masked, FULL, entropy),
    "branches on parameters": (Branching, (X, Y), entropy),
    "derivatives in forward": (Physics, (X[:, :1], REALS), F.mse_loss),
    "derivatives in the loss": (Field, (X[:, :1], REALS), residual),
    "torch.func in forward": (Functional, (X, REALS), F.mse_loss),
    "a function of one's own": (Custom, (X, Y), entropy),
    "complex numbers": (Spectral, (X, Y), entropy),
    "checkpoints": (Recomputing, (X, Y), entropy),
    "a cache written in place": (Caching, (X, Y), entropy),
    "kept activations": (lambda: used(Remembering()), (X, Y), entropy),
    "an output of another class": (Answering, (X, Y), entropy),
    "several terms": (net, (X, Y), two_terms),
    "asks whether it trains": (lambda: Training().train(), (X, Y), entropy),
    "pruned": (pruned, (X, Y), entropy),
    "hooks that keep activations": (hooked, (X, Y), entropy),
    "sparse embedding": (lambda: nn.Sequential(nn.Embedding(7, 2, sparse=True), nn.Flatten(), net(3, 6)), (WORDS, Y), entropy),
    "sparse bag": (lambda: nn.Sequential(nn.EmbeddingBag(7, 4, sparse=True, mode="sum"), net()), (WORDS, Y), entropy),
}


def built(name):
    build, data, loss = CASES[name]
    torch.manual_seed(0)
    return build().double(), data, loss


def plain(model, data, loss, state):
    """What the user's own call gives at some weights, and its gradient: load them, call backward."""
    model.eval().requires_grad_()
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(state[name])
    if isinstance(data, dict):
        value = loss(model(**{name: x for name, x in data.items() if name != "labels"}), data["labels"])
    else:
        value = loss(model(data[0].clone()), data[1])
    value.backward()
    slopes = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in model.parameters()]
    model.zero_grad()
    return value.item(), torch.cat([slope.reshape(-1) for slope in slopes])


@pytest.mark.parametrize("name", CASES)
def test_the_loss_and_its_gradient_are_those_of_the_users_own_call(name):
    model, data, loss = built(name)
    objective = dss.NetworkObjective(model, loss, data)
    centre = objective.space.flatten(dict(model.named_parameters()))
    points = (centre + 0.3 * torch.randn(2, len(centre), generator=torch.Generator().manual_seed(2))).double().requires_grad_()
    losses = objective(points)
    (gradients,) = torch.autograd.grad(losses.sum(), points)
    with torch.no_grad():
        assert objective(points).tolist() == pytest.approx(losses.tolist(), rel=1e-12)
    for point, found, gradient in zip(points.detach(), losses, gradients, strict=True):
        value, slope = plain(model, data, loss, objective.space.unflatten(point))
        assert found.item() == pytest.approx(value, rel=1e-9)
        torch.testing.assert_close(gradient, slope, rtol=1e-7, atol=1e-9)
