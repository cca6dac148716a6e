"""Images lie in the order that convolutions are quicker in, where the caller's code runs in that order."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

import dss
from dss.objectives.network.data import as_samples
from dss.objectives.network.images import takes_channels_last
from dss.objectives.network.samples import Samples

X = torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(20) % 5


class Viewing(nn.Module):
    """As many published networks end: by a view of the last images, which torch's plain order alone allows."""

    def __init__(self, *, pools: bool = True):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.pool = nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2) if pools else nn.Identity()
        self.last = nn.Linear(64 if pools else 256, 5)

    def forward(self, x):
        return self.last(self.pool(torch.relu(self.conv(x))).view(len(x), -1))


def viewed_mse(output, target):
    return mse_loss(output.view(-1), target.view(-1))


@pytest.mark.parametrize(
    ("model", "loss", "target"),
    [
        (Viewing(), cross_entropy, Y),
        (Viewing(pools=False), cross_entropy, Y),
        (nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 3, padding=1)), viewed_mse, X),
    ],
    ids=["pooled", "convolved", "images by the loss"],
)
def test_a_view_of_images_is_judged_trained_and_differentiated_as_the_caller_would(model, loss, target):
    expected = loss(model(X), target)
    expected.backward()
    objective = dss.NetworkObjective(model, loss, (X, target))
    point = objective.flatten(model.state_dict()).requires_grad_()
    found = objective(point[None])
    found.sum().backward()
    torch.testing.assert_close(found[0], expected.detach().double(), rtol=1e-6, atol=0)
    slopes = objective.flatten({name: p.grad for name, p in model.named_parameters()})
    torch.testing.assert_close(point.grad, slopes, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(objective(point.detach()[None])[0], expected.detach().double(), rtol=1e-6, atol=0)
    *_, last = dss.train(dss.Task(model, loss, (X, target), batch_size=8), seed=0, epochs=3, learning_rate=1e-2)
    assert loss(last.model(X), target) < expected


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5)), True),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), False),
        (Viewing(pools=False), False),
    ],
    ids=["flattened", "no convolution", "viewed"],
)
def test_the_order_is_tried(model, takes):
    before = torch.random.get_rng_state()
    assert takes_channels_last(model, as_samples((X, Y)), lambda some: some.given_to(model)) is takes
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    "images",
    [X[:, :1].contiguous(), X[3:9, :1].contiguous()[2:], X[:, :1], X[:, :1, :1].contiguous(), X],
    ids=["one channel", "a part", "cut out", "one row", "three channels"],
)
def test_images_of_one_channel_are_put_in_order_without_a_copy(images):
    found = as_samples((images, Y[: len(images)])).cast(torch.float32, torch.device("cpu"), channels_last=True).inputs[0]
    assert torch.equal(found, images) and found.stride() == images.to(memory_format=torch.channels_last).stride()
    (own,) = Samples((images,), Y).cast(torch.float32, torch.device("cpu"), channels_last=True).inputs
    assert (own.data_ptr() == images.data_ptr()) is (images.shape[1] == 1 and images.is_contiguous())


def test_training_in_that_order_is_training(monkeypatch):
    """Sums of a convolution are taken in another order; the network that comes out is the same up to rounding."""

    def end():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 5)).double()
        *_, last = dss.train(dss.Task(model, cross_entropy, (X.double(), Y), batch_size=8), seed=0, epochs=3)
        return dss.ParameterSpace.of(last.model).flatten(last.model.state_dict())

    quick = end()
    monkeypatch.setattr("dss.tasks.training.takes_channels_last", lambda *given: False)
    torch.testing.assert_close(end(), quick, rtol=0, atol=1e-10)
