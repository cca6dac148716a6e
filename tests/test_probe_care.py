"""Nothing of the caller's is touched, and models of unusual kinds are judged as the user would compute them."""

import copy

import pytest
import torch
import torch.nn.functional as F
from losses import CLASSES, WEIGHTS, N, X, mlp
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations, prune

import dss


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(7, 4, max_norm=0.5), nn.Linear(4, 3)

    def forward(self, words):
        return self.head(self.embed(words))


class Counting(nn.Module):
    """Counts its calls, and follows its weights, in buffers."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("centre", torch.zeros(6))

    def forward(self, x):
        self.calls += 1
        self.centre.mul_(0.9).add_(0.1 * self.layer.weight.detach().mean(0))
        return self.layer(x - self.centre)


class Clipping(nn.Module):
    """Clips its input in place where a sample asks for it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        if (x > 50).any():
            x.clamp_(max=10)
        return self.layer(x)


def spiked():
    x = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    x[131] = 100
    return x, torch.zeros(300, dtype=torch.long)


WRITERS = {
    "embedding with a largest norm": (Words, lambda: (torch.arange(N) % 7, CLASSES)),
    "relu first": (lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 3)), lambda: (X.clone(), CLASSES)),
    "dropout first": (lambda: nn.Sequential(nn.Dropout(0.5, inplace=True), nn.Linear(6, 3)), lambda: (X.clone(), CLASSES)),
    "clipping of a rare sample": (Clipping, spiked),
    "buffers": (Counting, lambda: (X.clone(), CLASSES)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_models_that_write_in_place_touch_neither_weights_nor_points_nor_data(name):
    build, data = WRITERS[name]
    model, (x, y) = build(), data()
    kept, state = x.clone(), copy.deepcopy(model.state_dict())
    objective = dss.NetworkObjective(model, F.cross_entropy, (x, y))
    point = torch.randn(2, objective.space.size, generator=torch.Generator().manual_seed(0))
    given = point.clone().requires_grad_()
    expected = [F.cross_entropy(_fresh(model, objective, row, kept), y).item() for row in point]
    losses = objective(given)
    losses.sum().backward()
    assert losses.tolist() == pytest.approx(expected, rel=1e-5) and objective(given).tolist() == losses.tolist()
    assert torch.equal(x, kept) and torch.equal(given, point)
    assert all(torch.equal(value, model.state_dict()[n]) for n, value in state.items())
    assert all(torch.equal(value, objective.state(point[0])[n]) for n, value in model.named_buffers())


def _fresh(model, objective, point, x):
    """The model's output on copies of everything."""
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    values = {name: value.clone() for name, value in objective.space.unflatten(point).items()}
    with torch.no_grad():
        return functional_call(copy.deepcopy(model).eval(), values | buffers, (x.clone(),))


class Pooled(nn.Module):
    """Has a layer that its output does not use."""

    def __init__(self):
        super().__init__()
        self.layer, self.pooler, self.scale = nn.Linear(6, 3), nn.Linear(3, 3), 2.0

    def forward(self, x):
        return self.layer(x) * self.scale


def test_parameters_that_are_not_used_are_no_reason_to_refuse_a_model():
    objective = dss.NetworkObjective(Pooled(), F.cross_entropy, (X, CLASSES))
    points = torch.randn(2, objective.space.size, requires_grad=True)
    (gradient,) = torch.autograd.grad(objective(points).sum(), points)
    assert not objective.space.unflatten(gradient)["pooler.weight"].any()


class Watcher:
    def __init__(self):
        self.seen = []

    def __call__(self, *_):
        self.seen.append(1)

    def look(self, *_):
        self.seen.append(2)


def test_hooks_of_the_caller_never_fire():
    model, seen, watcher = mlp(), [], Watcher()
    model.register_forward_hook(lambda *_: seen.append(1))
    model[0].register_forward_pre_hook(lambda *_: seen.append(2))
    model[2].register_full_backward_hook(lambda *_: seen.append(3))
    model[0].register_forward_hook(watcher)
    model[2].register_forward_hook(watcher.look)
    objective = dss.NetworkObjective(model, F.cross_entropy, (X, CLASSES))
    objective(torch.randn(2, objective.space.size, requires_grad=True)).sum().backward()
    assert not seen and not watcher.seen
    model(X)
    assert seen and watcher.seen


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize(
    "wrap",
    [
        lambda layer: nn.utils.weight_norm(layer),
        lambda layer: parametrizations.weight_norm(layer),
        lambda layer: parametrizations.spectral_norm(layer),
        lambda layer: prune.l1_unstructured(layer, "weight", 0.3),
    ],
)
def test_weights_that_torch_computes_are_computed_anew(wrap):
    model = mlp()
    wrap(model[0])
    model.eval()(X)
    objective = dss.NetworkObjective(model, F.cross_entropy, (X, CLASSES))
    point = torch.randn(2, objective.space.size, generator=torch.Generator().manual_seed(0))
    expected = [F.cross_entropy(functional_call(model, objective.space.unflatten(row), (X,)), CLASSES) for row in point]
    assert objective(point).tolist() == pytest.approx([value.item() for value in expected], rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("loss", [F.cross_entropy, nn.CrossEntropyLoss(weight=WEIGHTS), lambda o, t: F.cross_entropy(o, t)])
@pytest.mark.parametrize(
    "build",
    [
        mlp,
        lambda: nn.Sequential(nn.LayerNorm(6), mlp()),
        lambda: nn.Sequential(*(nn.Sequential(nn.Linear(6, 6), nn.ReLU()) for _ in range(6)), nn.Linear(6, 3)),
        lambda: nn.Sequential(nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)),
    ],
)
def test_models_in_half_precision_are_judged(build, loss, dtype):
    torch.manual_seed(0)
    model = build().to(dtype)
    objective = dss.NetworkObjective(model, loss, (X.to(dtype), CLASSES))
    point = objective.space.flatten(model.state_dict())[None]
    assert point.dtype == torch.float32
    exact = dss.NetworkObjective(model.double(), loss, (X.to(dtype), CLASSES))(point.double())
    torch.testing.assert_close(objective(point), exact, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(objective(point.to(dtype)), exact, rtol=0.05, atol=0.05)


class Outputs(nn.Module):
    """Returns more than one tensor, or one that does not count samples first."""

    def __init__(self, kind):
        super().__init__()
        self.layer, self.kind = nn.Linear(6, 3), kind

    def forward(self, x):
        h = self.layer(x)
        return {"dict": {"logits": h, "extra": (x, None)}, "tuple": (h, x), "sequence first": (h[None], x.sum())}[self.kind]


@pytest.mark.parametrize(("kind", "pick"), [("dict", "logits"), ("tuple", 0), ("sequence first", None)])
def test_outputs_of_any_form_are_probed(kind, pick):
    def logits(output):
        return output[0][0] if pick is None else output[pick]

    def weighted(output, target):
        return F.cross_entropy(logits(output), target, weight=WEIGHTS.to(logits(output)))

    def pair(output, target):
        return len(target) * F.cross_entropy(logits(output), target), len(target)

    plain = dss.NetworkObjective(Outputs(kind), lambda o, t: F.cross_entropy(logits(o), t), (X, CLASSES))
    points = torch.randn(2, plain.space.size)
    torch.testing.assert_close(dss.NetworkObjective(Outputs(kind), pair, (X, CLASSES))(points), plain(points))
    with pytest.raises(dss.InputError, match="sum, weight"):
        dss.NetworkObjective(Outputs(kind), weighted, (X, CLASSES))


def test_the_callers_random_numbers_are_not_drawn():
    model = nn.Sequential(mlp(), nn.Dropout(0.5))
    state = torch.get_rng_state()
    dss.NetworkObjective(model, F.cross_entropy, (X, CLASSES))
    assert torch.equal(torch.get_rng_state(), state)
