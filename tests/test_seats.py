"""Handing a model other tensors: every seat of a name gets them, and the model has its own again afterwards."""

import torch
from torch import nn
from torch.func import functional_call

import dss
from dss.objectives.network.seats import Seats


class Tied(nn.Module):
    """A tied weight, a shared module, a shared buffer, a recurrent layer."""

    def __init__(self):
        super().__init__()
        self.first, self.rnn, self.norm = nn.Linear(3, 3), nn.GRU(3, 3, batch_first=True), nn.BatchNorm1d(3)
        self.second, self.again = nn.Linear(3, 3), self.first
        self.second.weight = self.first.weight
        self.register_buffer("shift", torch.ones(3))
        self.norm.register_buffer("shift", self.shift)

    def forward(self, x):
        x = self.norm(self.again(self.second(self.first(x)))) + self.norm.shift
        return self.rnn(x[:, None])[0][:, 0] + self.shift


def test_a_model_computes_with_what_it_is_given_as_torch_has_it_and_keeps_its_own():
    torch.manual_seed(0)
    model, x = Tied().eval(), torch.randn(4, 3)
    given = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    buffers = {name: torch.rand_like(b) + 0.5 for name, b in model.named_buffers() if b.is_floating_point()}
    own, before = model(x).detach(), {name: id(t) for name, t in model.state_dict(keep_vars=True).items()}
    with Seats(model).taken(given, buffers):
        found = model(x)
    assert before == {name: id(t) for name, t in model.state_dict(keep_vars=True).items()}
    assert not torch.allclose(found, own)
    assert torch.equal(found, functional_call(model, given | buffers, (x,)))


def test_a_model_has_its_own_tensors_again_when_it_fails():
    model = nn.Linear(2, 2)
    own = model.weight
    try:
        with Seats(model).taken({"weight": torch.zeros(2, 2)}):
            model(torch.ones(1, 5))
    except RuntimeError:
        pass
    assert model.weight is own


def test_images_of_one_channel_are_given_in_the_order_that_convolutions_are_quick_in():
    images = torch.rand(6, 1, 8, 8)
    objective = dss.NetworkObjective(
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), nn.functional.mse_loss, (images, torch.rand(6, 72))
    )
    point = torch.zeros(objective.space.size)
    assert objective.samples_like(point).inputs[0].stride() == (64, 1, 8, 1)
    assert objective.samples_like(point).take(torch.tensor([3, 1])).inputs[0].stride() == (64, 1, 8, 1)


def test_convolutions_go_row_by_row_on_a_cpu_unless_asked_otherwise():
    data = torch.rand(6, 1, 4, 4), torch.rand(6, 2)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    loop, rows = (dss.NetworkObjective(net, nn.functional.mse_loss, data, rows=how) for how in ("auto", "vmap"))
    points = torch.randn(3, loop.space.size)
    assert not loop._rows.can_batch and rows._rows.can_batch
    assert torch.allclose(loop(points), rows(points))
