"""What the wiring calls unread changes no output, on networks of every kind and on traps."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

import dss
from dss.objectives.tracing import wiring
from models.resnet import ResNet


class Functional(nn.Module):
    """A module whose forward is a function of itself and the input."""

    def __init__(self, forward, **modules):
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)
        self._function = forward

    def forward(self, x):
        return self._function(self, x)


def chain():
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 7, bias=False), nn.ReLU(inplace=True), nn.Linear(7, 3))


def dense():
    """Concatenations: every layer reads all before it."""

    def forward(m, x):
        a = torch.relu(m.a(x))
        b = torch.relu(m.b(torch.cat([x, a], 1)))
        return m.c(torch.cat([a, b], 1))

    return Functional(forward, a=nn.Linear(5, 6), b=nn.Linear(11, 6), c=nn.Linear(12, 3))


def residual():
    def forward(m, x):
        a = torch.relu(m.a(x))
        return m.c(a + m.b(torch.relu(m.d(a))))

    return Functional(forward, a=nn.Linear(5, 6), b=nn.Linear(6, 6), c=nn.Linear(6, 3), d=nn.Linear(6, 6))


def grouped():
    layers = [nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=3), nn.BatchNorm2d(6), nn.AvgPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(6 * 4, 3))


def positions():
    """A linear layer on every place, then a flattened read."""
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(15, 3))


def layer_norm():
    return nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 3))


NETWORKS = {
    "chain": (chain, (5,)),
    "dense": (dense, (5,)),
    "residual": (residual, (5,)),
    "grouped": (grouped, (2, 6, 6)),
    "positions": (positions, (3, 4)),
    "layer norm": (layer_norm, (5,)),
    "digits": (dss.DigitsNet, (1, 8, 8)),
    "resnet": (lambda: ResNet(blocks=1, width=4), (1, 8, 8)),
    "transformer": (lambda: nn.Sequential(nn.TransformerEncoderLayer(4, 2, 6, batch_first=True), nn.Flatten(), nn.Linear(12, 3)), (3, 4)),
    "lstm": (lambda: Functional(lambda m, x: m.head(m.lstm(x)[0][:, -1]), lstm=nn.LSTM(4, 5, batch_first=True), head=nn.Linear(5, 3)), (3, 4)),
}  # fmt: skip


def thinned(tensors, generator):
    """Half of all weights exactly zero, so that some units are unread."""
    return {n: v * (torch.rand(v.shape, generator=generator) < 0.5) if v.ndim > 1 else v for n, v in tensors.items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_of_unread_units_change_no_output(name):
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    model = make().eval().double()
    x = torch.randn(3, *shape, dtype=torch.float64)
    layout = wiring(model, (x,))
    assert layout.known | layout.opaque == {n for n, _ in model.named_parameters()}
    assert not layout.known & layout.opaque
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        tensors = thinned({n: p.detach() for n, p in model.named_parameters()}, generator)
        read = layout.read({layer.weight: tensors[layer.weight] for layer in layout.layers})
        changed = {n: v.clone() for n, v in tensors.items()}
        for layer in layout.layers:
            for parameter in filter(None, (layer.weight, layer.bias)):
                changed[parameter][~read[layer.rows]] += torch.randn_like(changed[parameter][~read[layer.rows]])
        for norm in layout.norms:
            for parameter in filter(None, (norm.weight, norm.bias)):
                changed[parameter][~read[norm.units]] += 1
        before, after = (functional_call(model, t, (x,)) for t in (tensors, changed))
        assert torch.equal(before, after)


def test_units_that_are_read_are_found_by_brute_force():
    """On a chain, read means: joined to an output by a way of nonzero weights."""
    torch.manual_seed(0)
    model = chain().eval()
    layout = wiring(model, (torch.randn(3, 5),))
    generator = torch.Generator().manual_seed(2)
    for _ in range(50):
        tensors = thinned({n: p.detach() for n, p in model.named_parameters()}, generator)
        second, head = tensors["2.weight"] != 0, tensors["4.weight"] != 0
        ways = [(head.long().T @ torch.ones(3, dtype=torch.long)) > 0]
        ways.insert(0, (second.long().T @ ways[0].long()) > 0)
        read = layout.read({layer.weight: tensors[layer.weight] for layer in layout.layers})
        assert read.tolist() == [*ways[0].tolist(), *ways[1].tolist(), True, True, True]


TRAPS = {
    "a ReLU in place behind the head": Functional(lambda m, x: [y := m.a(x), y.relu_()][0], a=nn.Linear(4, 4)),
    "a sigmoid behind the head": nn.Sequential(nn.Linear(4, 4), nn.Sigmoid()),
    "a softmax": nn.Sequential(nn.Linear(4, 4), nn.Softmax(1)),
    "a layer used twice": Functional(lambda m, x: m.a(torch.relu(m.a(x))), a=nn.Linear(4, 4)),
    "a tied layer": Functional(lambda m, x: F.linear(torch.relu(m.a(x)), m.a.weight), a=nn.Linear(4, 4)),
    "an output that multiplies": Functional(lambda m, x: m.a(x) * m.a(x), a=nn.Linear(4, 4)),
}


@pytest.mark.parametrize("name", TRAPS)
def test_what_is_not_affine_has_no_head(name):
    layout = wiring(TRAPS[name].eval(), (torch.randn(3, 4),))
    assert layout.head is None


MIXERS = {
    "a mean over as many places as channels": lambda x: x.mean(1),
    "a pool without samples of its own": lambda x: F.avg_pool2d(x, 3, 1, 1),
    "a transposition": lambda x: x.transpose(1, 2)[:, :, 0],
    "a sum in place of a view": lambda x: [v := x.flatten(1), v.add_(x.flip(1).flatten(1))] and x[:, :, 0],
}


@pytest.mark.parametrize("name", MIXERS)
def test_operations_that_mix_channels_are_not_taken_for_pools(name):
    """The rows of a unit that reaches the output on such a way alone must count as read."""

    def forward(m, x):
        return m.c(MIXERS[name](m.a(x)).flatten(1)[:, :4])

    torch.manual_seed(0)
    model = Functional(forward, a=nn.Conv1d(2, 4, 1), c=nn.Linear(4, 2)).eval().double()
    x = torch.randn(3, 2, 4, dtype=torch.float64)
    layout = wiring(model, (x,))
    for column in range(4):
        tensors = {n: p.detach().clone() for n, p in model.named_parameters()}
        tensors["c.weight"][:, torch.arange(4) != column] = 0
        read = layout.read({layer.weight: tensors[layer.weight] for layer in layout.layers})
        first = next(layer for layer in layout.layers if layer.weight == "a.weight")
        for unit in range(4):
            moved = {n: v.clone() for n, v in tensors.items()}
            moved["a.weight"][unit] += 1
            same = torch.equal(functional_call(model, tensors, (x,)), functional_call(model, moved, (x,)))
            assert same or read[first.rows[unit]]


def test_what_runs_outside_of_the_trace_is_refused():
    hooked = chain()
    hooked[0].register_forward_hook(lambda module, given, out: out * 2)
    branching = Functional(lambda m, x: m.a(x) if x.sum() > 0 else m.a(-x), a=nn.Linear(4, 4))
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    for model in (hooked, branching, nn.Sequential(normed)):
        with pytest.raises(dss.InputError, match="cannot be read off"):
            wiring(model.eval(), (torch.randn(3, 4),))
