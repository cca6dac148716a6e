"""What `enclose` does with models: names what it cannot, changes nothing, takes buffers, ties and several inputs."""

import pytest
import torch
import torch.nn.functional as F
from enclosure_networks import (
    IMAGES,
    LABELS,
    NEXT,
    WORDS,
    assert_dominated,
    exact_loss,
    frozen,
)
from torch import nn

from dss.base.errors import EnclosureError
from dss.enclosure import CORNERS, Enclosure, enclose, lift, rule
from dss.enclosure.registry import forget
from models.mlp import MLP
from models.resnet import ResNet


class Signed(nn.Module):
    def forward(self, x):
        return torch.copysign(x, torch.ones_like(x))


class Unknown(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(64, 4), nn.Sequential(Signed()))

    def forward(self, x):
        return self.inner(x.flatten(1))


def enclosed(model, loss=F.cross_entropy, inputs=IMAGES, target=LABELS):
    start = {n: v.detach()[None] for n, v in model.named_parameters()}
    t = torch.zeros(1, dtype=torch.float64)
    return enclose(model, loss, start, start, t, t + 1, inputs, target)


def test_arguments_that_a_rule_does_not_take_are_refused():
    rule("copysign")(lambda x: x)
    try:
        with pytest.raises(EnclosureError, match=r"'copysign' with these arguments.*'inner\.1\.0' \(Signed\)"):
            enclosed(Unknown())
    finally:
        forget("copysign")


def test_an_operation_without_a_rule_is_named_with_its_module():
    with pytest.raises(EnclosureError, match=r"'copysign'.*'inner\.1\.0' \(Signed\)"):
        enclosed(Unknown())


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda o, t: o.sort(1)[0].mean(), "'sort'"),
        (lambda o, t: F.cross_entropy(o, t, reduction="none"), "one number"),
        (lambda o, t: torch.zeros(()), "depends on the parameters"),
        (lambda o, t: F.cross_entropy(o, t, weight=-torch.ones(10)), "negative"),
        (lambda o, t: float(o.mean()), "'item'|'__float__'"),
        (lambda o, t: o.mean() if o.mean() > 0 else -o.mean(), "'gt'|'__bool__'"),
        (lambda o, t: o[:, :2].add_(1).mean(), "in place"),
        (lambda o, t: (o.argmax(1) + t).mean(), "argmax"),
        (lambda o, t: torch.zeros(6, 10).add_(o).mean(), "writes into"),
        (lambda o, t: o.long().double().mean(), "'long'"),
        (lambda o, t: F.dropout(o, 0.5, training=True).mean(), "random"),
    ],
)
def test_what_cannot_be_enclosed_is_refused(loss, message):
    with pytest.raises(EnclosureError, match=message):
        enclosed(MLP(64, 10), loss)


def test_batch_statistics_are_refused_with_a_cure():
    model = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(EnclosureError, match="freeze"):
        enclosed(model)


def test_the_model_is_left_as_it_was():
    model = frozen(ResNet(blocks=1, width=2)).train()
    before = {n: v.clone() for n, v in model.state_dict().items()}
    enclosed(model)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())


def test_given_buffers_replace_the_models_own():
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 10)).double().eval()
    start = {n: v.detach()[None] for n, v in model.named_parameters()}
    t = torch.zeros(1, dtype=torch.float64)
    buffers = {"0.running_mean": torch.full((1,), 0.7), "0.running_var": torch.full((1,), 3.0)}
    given_buffers = enclose(model, F.cross_entropy, start, start, t, t + 1, IMAGES, LABELS, buffers=buffers)
    model[0].running_mean.fill_(0.7), model[0].running_var.fill_(3.0)
    exact = exact_loss(model, F.cross_entropy, start, start, t, IMAGES, LABELS)
    assert torch.allclose(given_buffers, exact.expand(1, len(CORNERS)), atol=1e-6) and not torch.allclose(exact, enclosed(
        nn.Sequential(nn.BatchNorm2d(1), *model[1:])), atol=1e-6)  # fmt: skip


def test_tied_weights_and_several_inputs():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(12, 6)
            self.head = nn.Linear(6, 12, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, words, shift):
            return self.head(self.embedding(words) + shift).transpose(1, 2)

    model = Tied().double()
    start = {n: v.detach()[None] for n, v in model.named_parameters()}
    shift = torch.randn(3, 5, 6, dtype=torch.float64)
    t = torch.zeros(1, dtype=torch.float64)
    bound = enclose(model, F.cross_entropy, start, start, t, t + 1, (WORDS, shift), NEXT)
    assert torch.allclose(bound, F.cross_entropy(model(WORDS, shift), NEXT).detach().expand(1, len(CORNERS)), atol=1e-10)


def test_a_rule_of_ones_own_is_one_function():
    @rule("copysign")
    def copysign(x, y):
        return torch.abs(x) * torch.sign(y)

    try:
        model = Unknown()
        assert_dominated(model, lambda o, t: o.mean(), 0.1, 0, IMAGES, LABELS, torch.float64)
    finally:
        forget("copysign")
    assert isinstance(lift(1.0), Enclosure)
