"""Paths between residual networks: their form, their pieces, their proof, and what a stream must look like."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dss
from dss.certificates.convexity import kind, prove_by_convexity
from dss.finders.residual import Residual
from dss.objectives.tracing import wiring
from models.resnet import Block, ResNet


def question(model, *, n=40, shape=(1, 8, 8), buffers="frozen", seed=0, steps=12):
    """Ends some steps of Adam away from random weights."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (n,), generator=generator)
    x = torch.randn(3, *shape, generator=generator)[y] + 0.3 * torch.randn(n, *shape, generator=generator)
    objective = dss.NetworkObjective(model, F.cross_entropy, (x, y), buffers=buffers)
    ends = []
    for _ in range(2):
        point = 0.3 * torch.randn(objective.space.size, generator=generator)
        for name, value in objective.space.unflatten(point).items():
            value += float(value.ndim == 1 and name.endswith("weight"))
        point.requires_grad_()
        optimizer = torch.optim.Adam([point], lr=0.01)
        for _ in range(steps):
            optimizer.zero_grad()
            objective(point[None]).sum().backward()
            optimizer.step()
        ends.append(point.detach())
    return dss.Problem.of(objective, *ends, threshold=50.0)


class DenseResidual(nn.Module):
    """A stream of features without convolutions or projections, with an activation in the stream or none."""

    def __init__(self, *, blocks=2, activation=torch.tanh):
        super().__init__()
        self.stem, self.head, self.activation = nn.Linear(5, 6), nn.Linear(6, 3), activation
        self.firsts = nn.ModuleList(nn.Linear(6, 5) for _ in range(blocks))
        self.seconds = nn.ModuleList(nn.Linear(5, 6) for _ in range(blocks))

    def forward(self, x):
        x = self.stem(x)
        for first, second in zip(self.firsts, self.seconds):
            x = self.activation(x + second(torch.relu(first(x))))
        return self.head(x)


NETWORKS = {
    "dense": (DenseResidual(), (5,), 2),
    "dense, plain stream": (DenseResidual(blocks=3, activation=torch.abs), (5,), 3),
    "ResNet-8": (ResNet(blocks=1, width=4, norm=False, classes=3), (1, 8, 8), 3),
}


@pytest.mark.parametrize("halves", ["score", "random"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_path_has_eight_pieces_a_block_and_five_and_is_proved(name, halves):
    model, shape, blocks = NETWORKS[name]
    problem = question(model, shape=shape)
    step = dss.ConvexPath(halves=halves).run(problem)
    proof = prove_by_convexity(problem.judge, step.path)
    assert len(proof.kinds) == 8 * blocks + 5
    assert proof.kinds.count("convex") == 4 * blocks + 3
    assert step.max_loss == pytest.approx(proof.upper, abs=1e-4)
    double = dss.Path(step.path.beads.double())
    count = len(proof.kinds)
    for t in (0.25, 0.6):
        inside = problem.judge(double.points(torch.arange(count), torch.full((count,), t, dtype=torch.float64)))
        assert (inside <= proof.cells[:, 3]).all()


def test_recalibrated_norms_keep_the_pieces():
    problem = question(ResNet(blocks=1, width=4, classes=3), buffers="recalibrate", steps=4)
    objective = problem.objective.unwrapped
    step = dss.ConvexPath().run(problem)
    layout, space = wiring(objective.model, objective.data.take(slice(0, 3)).inputs), objective.space
    kinds = [kind(layout, space.unflatten(a), space.unflatten(b)) for a, b in pairwise(step.path.beads)]
    assert len(kinds) == 29 and None not in kinds
    losses = objective(step.path.beads.double())
    assert all(found == "convex" or abs(a - b) < 1e-9 for (a, b), found in zip(pairwise(losses), kinds))


def test_a_wide_network_gives_half_of_itself_away_for_little():
    """With twice the units that the data needs, a half says nearly what the whole says."""
    problem = question(DenseResidual(blocks=1), shape=(5,), steps=150)
    step = dss.ConvexPath().run(problem)
    straight = problem.judge(problem.straight.points(torch.zeros(9, dtype=torch.long), torch.linspace(0, 1, 9))).max()
    assert step.max_loss < straight


def test_training_lowers_a_corner_and_keeps_the_proof():
    problem = question(DenseResidual(blocks=1), shape=(5,), steps=60)
    plain = dss.ConvexPath().run(problem)
    goal = dss.Problem.of(
        problem.objective.unwrapped, problem.start, problem.end, threshold=(plain.max_loss + max(problem.loss_start, problem.loss_end)) / 2
    )  # fmt: skip
    trained = dss.ConvexPath(fit="train").run(goal)
    assert trained.gradient_steps > 0 and trained.max_loss < plain.max_loss
    assert prove_by_convexity(goal.judge, trained.path).kinds.count(None) == 0


class Bottleneck(nn.Module):
    """Three layers beside the stream."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b, self.c = (nn.Linear(5, 5) for _ in range(4))
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        x = self.stem(x)
        return self.head(torch.relu(x + self.c(torch.relu(self.b(torch.relu(self.a(x)))))))


@pytest.mark.parametrize(
    "model, shape, words",
    [(Bottleneck(), (5,), "block of two layers"), (nn.Sequential(Block(2, 4, 1, norm=False), nn.Flatten(), nn.Linear(64, 3)), (2, 4, 4), "block of two")],
    ids=["three layers", "no stem"],
)  # fmt: skip
def test_other_streams_are_refused_with_the_reason(model, shape, words):
    objective = dss.NetworkObjective(model, F.cross_entropy, (torch.randn(9, *shape), torch.arange(9) % 3))
    with pytest.raises(dss.InputError, match=words):
        Residual(objective, samples=9)
