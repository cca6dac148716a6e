"""A loss that does not add up over samples, or reads what it is not given, is refused with its cause."""

import pytest
import torch
import torch.nn.functional as F
from losses import BITS, CLASSES, COLUMN, PADDED, REALS, WEIGHTS, N, X, contrastive, dice, largest, mlp
from torch import nn
from torch.func import functional_call

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
