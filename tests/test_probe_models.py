"""A model that is no function of its parameters and single samples is refused with its cause."""

import pytest
import torch
import torch.nn.functional as F
from losses import CLASSES, X, mlp
from torch import nn

import dss


class Kept(nn.Module):
    """Keeps a tensor computed from its weights."""

    def __init__(self, detach=False):
        super().__init__()
        self.layer, self.detach, self.kept = nn.Linear(6, 3), detach, None

    def forward(self, x):
        if self.kept is None:
            self.kept = self.layer.weight * 2
            self.kept = self.kept.detach() if self.detach else self.kept
        return F.linear(x, self.kept)


def kept_before():
    model = Kept(detach=True)
    model(X)
    return model


class PartlyKept(Kept):
    """Keeps the product of one of two layers."""

    def __init__(self, detach=False):
        super().__init__(detach)
        self.head = nn.Linear(3, 3)

    def forward(self, x):
        return self.head(super().forward(x))


def partly_kept_before(detach):
    model = PartlyKept(detach)
    model(X)
    return model


class Merging(nn.Module):
    """Adds its low-rank part to its weight in eval, as adapters do."""

    def __init__(self):
        super().__init__()
        self.weight, self.low, self.merged = nn.Parameter(torch.randn(3, 6)), nn.Parameter(torch.randn(3, 6)), False

    def train(self, mode=True):
        if self.merged == mode:
            self.weight.data += -self.low if mode else self.low
            self.merged = not mode
        return super().train(mode)

    def forward(self, x):
        return F.linear(x, self.weight if self.merged else self.weight + self.low)


class Caching(nn.Module):
    """Keeps what it made of a parameter in eval, and forgets it in training."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias, self.cache = nn.Parameter(torch.randn(3, 6)), nn.Parameter(torch.randn(3)), {}

    def train(self, mode=True):
        if mode:
            self.cache = {}
        return super().train(mode)

    def forward(self, x):
        if self.training:
            return F.linear(x, self.weight, self.bias.exp())
        if "bias" not in self.cache:
            self.cache["bias"] = self.bias.exp()
        return F.linear(x, self.weight, self.cache["bias"])


class Masked(nn.Module):
    """A token for training alone, as masked autoencoders have one, in a model with a train() that matters not."""

    def __init__(self):
        super().__init__()
        self.body, self.mask_token, self.switches = nn.Linear(6, 3), nn.Parameter(torch.randn(6)), 0

    def train(self, mode=True):
        self.switches += 1
        return super().train(mode)

    def forward(self, x):
        return self.body(torch.where(torch.rand(len(x), 1) < 0.5, x, self.mask_token) if self.training else x)


class Gated(nn.Module):
    """Adds the mean over the batch, times a gate that is zero at first."""

    def __init__(self, gate=0.0):
        super().__init__()
        self.layer, self.gate = nn.Linear(6, 3), nn.Parameter(torch.tensor(gate))

    def forward(self, x):
        h = self.layer(x)
        return h + self.gate * h.mean(0)


class Rare(nn.Module):
    """Looks at the whole batch, but for one sample alone."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        return self.layer(x * 2 if (x[:, 0] > 50).any() else x)


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        return self.layer(x) + 1e-4 * torch.randn(3)


class Centring(nn.Module):
    """Writes the batch's mean to a buffer and uses it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.register_buffer("centre", torch.zeros(6))

    def forward(self, x):
        self.centre.copy_(x.mean(0))
        return self.layer(x - self.centre)


def untracked():
    return nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3, track_running_stats=False))


def doubled_by_hook():
    model = mlp()
    model[0].register_forward_hook(lambda module, inputs, output: output * 2)
    return model


def halved_by_hook_in_place():
    model = mlp()
    model[2].register_forward_hook(lambda module, inputs, output: output.mul_(0.5))
    return model


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (Kept, "remembers"),
        (lambda: Kept(detach=True), "remembers"),
        (kept_before, "stays the same"),
        (PartlyKept, "remembers"),
        (lambda: partly_kept_before(True), "layer.weight does nothing.*kept"),
        (lambda: partly_kept_before(False), "layer.weight does nothing.*kept"),
        (Merging, "low does nothing.*train"),
        (Caching, "bias does nothing.*cache is a tensor kept"),
        (Gated, "evaluated with"),
        (lambda: Gated(0.5), "evaluated with"),
        (Centring, "evaluated with"),
        (untracked, "some of the samples alone"),
        (Noisy, "random"),
        (doubled_by_hook, "hook"),
        (halved_by_hook_in_place, "hook"),
        (lambda: mlp().requires_grad_(False), "all 4 parameters"),
        (lambda: nn.Linear(7, 3), "the model raises"),
    ],
)
def test_a_model_that_is_no_function_of_parameters_and_single_samples_is_refused(build, message):
    with pytest.raises(dss.InputError, match=message):
        dss.NetworkObjective(build(), F.cross_entropy, (X, CLASSES))


def test_samples_that_know_of_each_other_are_found_by_the_first_evaluation_at_the_latest():
    x = torch.randn(500, 6, generator=torch.Generator().manual_seed(0))
    x[237, 0] = 100
    objective = dss.NetworkObjective(Rare(), F.cross_entropy, (x, torch.zeros(500, dtype=torch.long)))
    with pytest.raises(dss.InputError, match="cut into chunks"):
        objective(torch.randn(1, objective.space.size))


def test_a_model_that_writes_over_what_its_gradient_needs_can_still_be_judged():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x):
            u, v = self.a(x), self.b(x)
            product = u * v
            v.mul_(0.0)
            return product

    torch.manual_seed(0)
    model, x, y = Gated(), torch.randn(12, 3), torch.arange(12) % 2
    judge = dss.NetworkObjective(model, nn.functional.cross_entropy, (x, y))
    expected = nn.functional.cross_entropy(model(x), y)
    torch.testing.assert_close(judge(judge.space.flatten(model.state_dict())[None])[0].float(), expected.detach())


def test_a_parameter_for_training_alone_is_no_obstacle():
    """Its model has a train() of its own, which makes nothing of it."""
    torch.manual_seed(0)
    model = Masked().eval()
    judge = dss.NetworkObjective(model, F.cross_entropy, (X, CLASSES))
    with torch.no_grad():
        expected = F.cross_entropy(model(X), CLASSES)
    torch.testing.assert_close(judge(judge.flatten(model.state_dict())[None])[0].float(), expected)
