"""What cannot be judged as the user would compute it is refused with its cause, and nothing of the caller's is touched."""

import copy

import pytest
import torch
import torch.nn.functional as F
from losses import BITS, CLASSES, COLUMN, PADDED, REALS, WEIGHTS, N, X, contrastive, dice, largest, mlp
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations, prune

import dss


def zero_head(outputs=3):
    """A head that starts at zero: at the model's own parameters every output is the same."""
    model = mlp(outputs)
    nn.init.zeros_(model[2].weight), nn.init.zeros_(model[2].bias)
    return model


def late(start, fill=-100):
    """Labels of 200 samples of which the last ones are ignored."""
    labels = torch.randint(3, (200,), generator=torch.Generator().manual_seed(0))
    labels[start:] = fill
    return torch.randn(200, 6, generator=torch.Generator().manual_seed(1)), labels


def single(place):
    """Labels of which one in the middle is ignored."""
    x, labels = late(200)
    labels[place] = -100
    return x, labels


def model_pair(output, target):
    return F.cross_entropy(output, target, reduction="sum"), (output.argmax(1) == target).sum() + 1


NOT_SUMS = {
    "class weights in a closure": (lambda o, t: F.cross_entropy(o, t, weight=WEIGHTS.to(o)), X, CLASSES),
    "class weights, mild": (lambda o, t: F.cross_entropy(o, t, weight=1 + 0.01 * WEIGHTS.to(o)), X, CLASSES),
    "weights by hand": (lambda o, t: (F.cross_entropy(o, t, reduction="none") * t).sum() / t.sum(), X, CLASSES),
    "ignored in a closure": (lambda o, t: F.cross_entropy(o, t, ignore_index=-100), X, PADDED),
    "ignored late": (lambda o, t: F.cross_entropy(o, t), *late(150)),
    "ignored class": (lambda o, t: F.cross_entropy(o, t, ignore_index=2), X, CLASSES),
    "one ignored": (lambda o, t: F.cross_entropy(o, t), *single(93)),
    "a sum in a closure": (lambda o, t: F.cross_entropy(o, t, reduction="sum"), X, CLASSES),
    "broadcast": (nn.MSELoss(), X, REALS[:, 0]),
    "broadcast in a closure": (lambda o, t: ((o - t) ** 2).mean(), X, COLUMN[:, 0]),
    "broadcast by a function": (lambda o, t: F.mse_loss(o, t), X, COLUMN[:, 0]),
    "largest": (largest, X, COLUMN),
    "root": (lambda o, t: ((o - t) ** 2).mean().sqrt(), X, REALS),
    "median": (lambda o, t: ((o - t) ** 2).mean(1).median(), X, REALS),
    "contrastive": (contrastive, X, REALS),
    "dice": (dice, X, BITS),
    "weights of the model": (lambda o, t: ((o.sigmoid() * t).sum(), o.sigmoid().sum()), X, BITS),
    "weights of the model's choice": (model_pair, X, CLASSES),
    "variance": (lambda o, t: ((o - t) ** 2).mean() + o.var(0).mean(), X, REALS),
    "weights of samples": (nn.BCEWithLogitsLoss(weight=torch.rand(N, 1)), X, BITS),
    "entries": (nn.MSELoss(reduction="none"), X, REALS),
}


@pytest.mark.parametrize("build", [mlp, zero_head])
@pytest.mark.parametrize("name", NOT_SUMS)
def test_a_loss_that_does_not_add_up_is_refused_with_the_way_out(name, build):
    loss, x, y = NOT_SUMS[name]
    model = build(1) if y.shape == (len(x), 1) or "broadcast" in name else build()
    with pytest.raises(dss.InputError, match=r"\(sum, weight\)|whole=True"):
        dss.NetworkObjective(model, loss, (x, y))


ROUNDED = {
    "squares": (lambda o, t, to: (to(o) - to(t)).square().sum(-1).mean(), REALS),
    "squares, handed back wide": (lambda o, t, to: (to(o) - to(t)).square().sum(-1).mean().double(), REALS),
    "rounded after the difference": (lambda o, t, to: to(o - t).square().sum(-1).mean().float(), REALS),
    "classes": (lambda o, t, to: F.cross_entropy(to(o), t), CLASSES),
    "losses of samples": (lambda o, t, to: (to(o) - to(t)).square().sum(-1), REALS),
    "a pair": (lambda o, t, to: (F.cross_entropy(to(o), t, reduction="sum"), torch.ones_like(t).sum()), CLASSES),
}


@pytest.mark.parametrize("narrow", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("wide", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ROUNDED)
def test_a_loss_may_compute_in_fewer_bits_than_it_is_given(name, wide, narrow):
    own, y = ROUNDED[name]

    def loss(output, target):
        return own(output, target, lambda x: x.to(narrow))

    model, x = mlp().to(wide), X.to(wide)
    objective = dss.NetworkObjective(model, loss, (x, y), batch_size=16)
    with torch.no_grad():
        found = objective(objective.space.flatten(model.state_dict())[None]).item()
    exact = own(model(x), y.to(wide) if y.is_floating_point() else y, lambda x: x.double())
    exact = exact[0] / exact[1] if isinstance(exact, tuple) else exact.mean()
    assert found == pytest.approx(exact.item(), rel=4 * torch.finfo(narrow).eps)


def test_a_loss_that_takes_what_it_is_given_is_held_to_that():
    plain = dss.NetworkObjective(mlp(), lambda o, t: (o - t).square().sum(-1).mean(), (X, REALS))
    assert plain._rows.precision(torch.float64) == torch.float64
    rounded = dss.NetworkObjective(mlp(), lambda o, t: (o.float() - t.float()).square().sum(-1).mean(), (X, REALS))
    assert rounded._rows.precision(torch.float64) == torch.float32


@pytest.mark.parametrize("narrow", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "loss",
    [
        lambda o, t: F.cross_entropy(o, t) * len(t),
        lambda o, t: F.cross_entropy(o, t, weight=WEIGHTS.to(o)),
        lambda o, t: F.cross_entropy(o, t) + o.var(0).mean(),
        lambda o, t: (o.argmax(1) != t).to(o).max(),
    ],
)
def test_what_does_not_add_up_is_found_in_few_bits_too(loss, narrow):
    for model in (mlp(), mlp().double()):
        with pytest.raises(dss.InputError, match="must be a mean over samples"):
            dss.NetworkObjective(model, lambda o, t: loss(o.to(narrow), t), (X.to(model[0].weight), CLASSES))


@pytest.mark.parametrize("build", [mlp, zero_head])
def test_what_was_refused_is_judged_as_what_it_is_when_said_to_be_of_the_whole(build):
    for name in ("broadcast in a closure", "largest", "root", "median", "dice", "variance", "class weights in a closure"):
        loss, x, y = NOT_SUMS[name]
        model = build(1) if y.shape == (len(x), 1) or "broadcast" in name else build()
        objective = dss.NetworkObjective(model, loss, (x, y), whole=True)
        point = torch.randn(objective.space.size, generator=torch.Generator().manual_seed(5))
        expected = loss(functional_call(model, objective.space.unflatten(point), (x,)), y)
        assert objective(point[None]).item() == pytest.approx(expected.item(), rel=1e-6)


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


def with_decay(power, detach):
    def build(model):
        def loss(output, target):
            terms = [(p.detach() if detach else p).pow(power).sum() for p in model.parameters()]
            return F.cross_entropy(output, target) + 1e-3 * sum(terms)

        return loss

    return build


class Temperature(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, output, target):
        return F.cross_entropy(output * self.scale, target)


@pytest.mark.parametrize(
    "loss",
    [
        with_decay(2, False),
        with_decay(2, True),
        with_decay(4, True),
        lambda model: lambda o, t: F.cross_entropy(o, t) + 1e-3 * model[0].weight.data.norm(),
        lambda model: Temperature(),
    ],
)
def test_a_loss_that_reads_weights_it_is_not_given_is_refused(loss):
    model = mlp()
    with pytest.raises(dss.InputError, match="beside the parameters"):
        dss.NetworkObjective(model, loss(model), (X, CLASSES))


def test_constants_of_a_loss_are_no_reason_to_refuse_it():
    model = mlp()
    model[0].requires_grad_(False)
    for loss in (Temperature().requires_grad_(False), lambda o, t: F.cross_entropy(o, t) + model[0].weight.pow(2).sum()):
        objective = dss.NetworkObjective(model, loss, (X, CLASSES))
        point = torch.randn(objective.space.size)
        expected = loss(functional_call(model, objective.space.unflatten(point), (X,)), CLASSES)
        assert objective(point[None]).item() == pytest.approx(expected.item(), rel=1e-6)


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
