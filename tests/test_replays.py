"""A pass that is played gives what the pass itself gives, to the last bit; what cannot be followed is made as it is written."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils._python_dispatch import TorchDispatchMode

import dss
from dss.enclosure.tape import Tape
from dss.objectives.network import replays
from dss.objectives.network.replays import BEFORE, TRIALS, Replays
from models.mlp import MLP
from models.recurrent import LanguageModel
from models.transformer import RowTransformer

# Passes after which a kind is played alone.
WARM = BEFORE + TRIALS + 2


def tokens(n):
    return torch.randint(5, (n, 6)), torch.randint(5, (n, 6))


def by_token(output, target):
    return cross_entropy(output.flatten(0, 1), target[:, 1:].flatten())


def rows_of(n):
    return torch.randn(n, 6), torch.randint(3, (n,))


class Frozen(nn.Module):
    """A layer that does not move, a buffer, and memory of its own that is written into."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 3)
        self.register_buffer("scale", torch.linspace(0.5, 1.5, 5))
        self.first.requires_grad_(False)

    def forward(self, x):
        h = self.first(x).tanh() * self.scale
        sums = torch.zeros_like(h)
        sums[:, 1:] = h[:, :-1]
        sums += h
        return self.last(sums)


NETWORKS = {
    "mlp": (lambda: MLP(6, 3, width=8, depth=2), cross_entropy, rows_of),
    "gelu": (lambda: MLP(6, 3, width=8, depth=2, activation=nn.GELU), cross_entropy, rows_of),
    "inplace": (lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 3)), cross_entropy, rows_of),
    "dropout": (lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3)), cross_entropy, rows_of),
    "frozen": (Frozen, cross_entropy, rows_of),
    "transformer": (RowTransformer, cross_entropy, lambda n: (torch.randn(n, 1, 8, 8), torch.randint(10, (n,)))),
    "lstm": (lambda: LanguageModel(5, width=4), by_token, tokens),
    "norm": (
        lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)),
        cross_entropy,
        rows_of,
    ),
}  # fmt: skip


def objective_of(name, dtype=torch.float32, **options):
    torch.manual_seed(0)
    make, loss, data = NETWORKS[name]
    net = make().to(dtype)
    inputs, target = data(128)
    inputs = inputs.to(dtype) if inputs.is_floating_point() else inputs
    return dss.NetworkObjective(net, loss, (inputs, target), batch_size=16, **options), net


def evaluated(objective, net, *, rounds=WARM):
    """Losses, estimates and gradients at many points, and at one again in the end."""
    start = objective.flatten(net.state_dict())
    generator, found = torch.Generator().manual_seed(1), []
    judge = objective.on_samples(torch.arange(64))
    for i in [*range(rounds), 0]:
        for k in (1, 3):
            points = start * (1 + 0.02 * (i + torch.arange(k)[:, None]))
            found.append(judge(points))
            for losses in (objective, lambda p: objective.estimate(p, generator)):
                moving = points.clone().requires_grad_()
                values = losses(moving)
                found += [values.detach(), *torch.autograd.grad(values.sum(), moving)]
    return found


def played(objective):
    """How many kinds of passes are played."""
    return sum(kind.bytes > 0 and kind.trials >= TRIALS for kind in objective._evaluation.replays._kinds.values())


@pytest.mark.parametrize(("name", "dtype"), [*((name, torch.float32) for name in NETWORKS), ("frozen", torch.float64)])
def test_what_is_played_has_the_bits_of_the_pass(name, dtype, monkeypatch):
    objective, net = objective_of(name, dtype)
    found = evaluated(objective, net)
    assert bool(played(objective)) == (name != "lstm")  # whose kernel returns less when it is played: it is not followed
    monkeypatch.setattr(Replays, "takes", lambda *_: False)
    plain, net = objective_of(name, dtype)
    expected = evaluated(plain, net)
    assert not played(plain)
    assert len(found) == len(expected) and all(map(torch.equal, found, expected))


class Branching(nn.Module):
    """Python chooses by a number."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        y = self.layer(x)
        return y if self.choice(self.layer.weight.sum()) else y * y

    def choice(self, total):
        return bool(total > 0)


class ByLists(Branching):
    def choice(self, total):
        return total.tolist() > 0


class ByNumPy(Branching):
    def choice(self, total):
        return np.asarray(total.detach()) > 0


class Chosen(Branching):
    """What is chosen by a mask is as long as the numbers have it."""

    def forward(self, x):
        weight = self.layer.weight
        return self.layer(x) * weight[weight > 0].sum()


class OnTheWayBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return torch.from_numpy(gradient.numpy() * 2)


class Backward(Branching):
    def forward(self, x):
        return OnTheWayBack.apply(self.layer(x))


class Hooked(Branching):
    def forward(self, x):
        y = self.layer(x)
        if y.requires_grad:
            y.register_hook(lambda gradient: 2 * gradient if gradient.tolist()[0][0] > 0 else gradient)
        return y


class Seeded(Branching):
    """Random numbers, always the same."""

    def forward(self, x):
        noise = torch.rand(6, generator=torch.Generator().manual_seed(3), dtype=x.dtype)
        return self.layer(x + noise)


class Checked(Branching):
    def forward(self, x):
        y = self.layer(x)
        torch.ops.aten._assert_async(y.isfinite().all())
        return y


REFUSED = [Branching, ByLists, ByNumPy, Chosen, Backward, Hooked, Seeded, Checked]


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_read_past_the_operations_is_computed_as_it_is_written(kind, monkeypatch):
    """At points on both sides of every choice."""

    def all_of_it():
        torch.manual_seed(0)
        net = kind()
        objective = dss.NetworkObjective(net, cross_entropy, rows_of(128), batch_size=16, rows="loop")
        start, generator, found = objective.flatten(net.state_dict()), torch.Generator().manual_seed(1), []
        for sign in (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, 1, -1):
            moving = (sign * start)[None].requires_grad_()
            values = objective.estimate(moving, generator)
            found += [values.detach(), *torch.autograd.grad(values.sum(), moving)]
        return objective, found

    objective, found = all_of_it()
    kinds = objective._evaluation.replays._kinds.values()
    assert kinds and all(k.bytes == 0 and k.passes > BEFORE for k in kinds)
    monkeypatch.setattr(Replays, "takes", lambda *_: False)
    assert all(map(torch.equal, found, all_of_it()[1]))


def test_a_play_that_differs_in_one_bit_is_the_last(monkeypatch):
    """Verification does not rest on the recorder's rules."""
    play = Tape.play
    monkeypatch.setattr(Tape, "play", lambda tape, given: torch.nextafter(play(tape, given), torch.tensor(torch.inf)))
    objective, net = objective_of("mlp")
    found = evaluated(objective, net)
    assert not played(objective)
    monkeypatch.setattr(Replays, "takes", lambda *_: False)
    plain, net = objective_of("mlp")
    assert all(map(torch.equal, found, evaluated(plain, net)))


def test_data_that_is_written_over_between_two_passes_is_read_anew():
    objective, net = objective_of("mlp")
    start = objective.flatten(net.state_dict())
    for i in range(WARM):
        objective(start[None] * (1 + i / 100))
    assert played(objective)
    before = objective(start[None])
    objective.samples_like(start).inputs[0].mul_(1.5)
    after = objective(start[None])
    assert not torch.equal(before, after) and torch.allclose(after, objective.plain(start[None]), rtol=1e-5)


def test_a_search_has_the_same_path_with_and_without_and_resumes_to_the_last_bit(monkeypatch):
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 60)[:, None]
    net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
    objective = dss.NetworkObjective(net, mse_loss, (x, x**2))
    start = objective.flatten(net.state_dict())
    quick = dss.Descent(lambda parameters: torch.optim.Adam(parameters, lr=0.02), max_steps=300)
    trained = dss.descend(objective, objective, start[None], 0.0, options=quick, generator=torch.Generator())
    first = trained.points[0]
    # The same function, with its hidden units in the other order: a path must go around.
    flipped = {name: value.flip(1) if name == "2.weight" else value.flip(0) for name, value in objective.state(first).items()}
    second = objective.flatten(flipped)
    problem = dss.Problem.of(objective, first, second, threshold=1.5 * trained.losses.item())
    finder = dss.GreedyString(descent=quick, limits=dss.Limits(rounds=4))
    steps = list(finder.steps(problem))
    assert played(objective)
    resumed = finder.run(problem, resume=steps[1])
    monkeypatch.setattr(Replays, "takes", lambda *_: False)
    plain = finder.run(problem)
    assert torch.equal(steps[-1].path.beads, plain.path.beads) and torch.equal(resumed.path.beads, plain.path.beads)


def test_large_passes_convolutions_and_watched_ones_are_not_recorded(monkeypatch):
    torch.manual_seed(0)
    conv = dss.NetworkObjective(dss.DigitsNet(), cross_entropy, (torch.rand(128, 1, 8, 8), torch.randint(10, (128,))))
    evaluated(conv, conv.model)
    assert not conv._evaluation.replays._kinds

    class Watching(TorchDispatchMode):
        seen = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.seen += "tanh" in str(func)
            return func(*args, **(kwargs or {}))

    objective, net = objective_of("norm", buffers="frozen")
    evaluated(objective, net)
    assert played(objective)
    with Watching() as watching:
        objective(objective.flatten(net.state_dict())[None])
    assert watching.seen
    monkeypatch.setattr(replays, "SMALL", 0)
    large, net = objective_of("mlp")
    evaluated(large, net)
    assert not large._evaluation.replays._kinds


def test_tapes_are_few_and_copies_make_their_own(monkeypatch):
    monkeypatch.setattr(replays, "KINDS", 3)
    objective, net = objective_of("mlp")
    evaluated(objective, net)
    kinds = objective._evaluation.replays._kinds
    assert len(kinds) <= 3
    monkeypatch.undo()
    objective, net = objective_of("mlp")
    evaluated(objective, net)
    kept = objective._evaluation.replays
    monkeypatch.setattr(replays, "KEPT", 1)
    kept._make_room()
    assert sum(kind.bytes > 0 for kind in kept._kinds.values()) <= 1
    for twin in (copy.deepcopy(kept), pickle.loads(pickle.dumps(Replays(None, 5)))):  # pyright: ignore[reportArgumentType]
        assert not twin._kinds and twin.bytes in (kept.bytes, 5)
