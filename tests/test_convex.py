"""The constructed path: its form, its fit, what it refuses, and the way through `connect` and the command line."""

import json
from itertools import pairwise, permutations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dss
from dss.certificates.convexity import kind, prove_by_convexity
from dss.cli import main
from dss.finders import writing
from dss.finders.writing import nearest
from dss.objectives.tracing import wiring
from tests.architectures import Encoder, ResidualLayerNorm, WordLSTM


def blobs(n=60, shape=(5,), seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (n,), generator=generator)
    centres = torch.randn(3, *shape, generator=generator)
    return centres[y] + 0.3 * torch.randn(n, *shape, generator=generator), y


def mlp(*widths, bias=True):
    layers = []
    for a, b in zip((5, *widths), (*widths, 3)):
        layers += [nn.Linear(a, b, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def trained(objective, seed, steps):
    """A point some steps of Adam away from random weights; scales of norms start at 1."""
    generator = torch.Generator().manual_seed(seed)
    point = 0.4 * torch.randn(objective.space.size, generator=generator)
    for name, value in objective.space.unflatten(point).items():
        if value.ndim == 1 and name.endswith("weight"):
            value += 1
    point.requires_grad_()
    optimizer = torch.optim.Adam([point], lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        objective(point[None]).sum().backward()
        optimizer.step()
    return point.detach()


def question(model, *, shape=(5,), threshold=10.0, buffers="frozen", seed=0, steps=100):
    objective = dss.NetworkObjective(model, F.cross_entropy, blobs(shape=shape), buffers=buffers)
    a, b = (trained(objective, seed + i, steps) for i in range(2))
    return dss.Problem.of(objective, a, b, threshold=threshold)


@pytest.mark.parametrize("widths", [(), (6,), (7, 5), (6, 8, 5), (6, 5, 7, 6)])
@pytest.mark.parametrize("halves", ["score", "random"])
def test_the_path_has_4k_minus_3_pieces_and_its_corners_prove_it(widths, halves):
    problem = question(mlp(*widths))
    step = dss.ConvexPath(halves=halves).run(problem)
    proof = prove_by_convexity(problem.judge, step.path)
    layers = len(widths) + 1
    assert len(proof.kinds) == 4 * layers - 3
    assert proof.kinds.count("convex") == 2 * layers - 1
    assert torch.equal(step.path.beads[0], problem.start) and torch.equal(step.path.beads[-1], problem.end)
    assert step.max_loss == pytest.approx(proof.upper, rel=1e-5)


def test_units_that_say_nothing_are_given_away_for_nothing():
    problem = question(mlp(8))
    objective, start = problem.objective.unwrapped, problem.start.clone()
    objective.space.unflatten(start)["2.weight"][:, ::2] = 0
    path = dss.ConvexPath(ridge=1e-10).run(dss.Problem.of(objective, start, problem.end, threshold=100.0)).path
    head = objective.space.unflatten(path.beads[1])["2.weight"]
    assert not head[:, ::2].any() and head[:, 1::2].any()
    assert torch.allclose(objective(path.beads[:1]), objective(path.beads[1:2]), atol=1e-4)


def test_the_fit_is_ridge_regression_on_the_kept_half():
    """The first corner's last layer against numpy on its own features, in float64."""
    problem = question(mlp(8))
    objective = problem.objective.unwrapped
    path = dss.ConvexPath(ridge=1e-3).run(problem).path
    start, corner = (objective.space.unflatten(bead.double()) for bead in path.beads[:2])
    kept = corner["2.weight"].any(0)
    assert kept.sum() == 4
    hidden = torch.relu(objective.data.inputs[0].double() @ start["0.weight"].T + start["0.bias"])
    target = hidden @ start["2.weight"].T + start["2.bias"]
    x, z = hidden[:, kept] - hidden[:, kept].mean(0), target - target.mean(0)
    gram = x.T @ x
    weights = torch.linalg.solve(gram + 1e-3 * gram.diagonal().mean() * torch.eye(4).double(), x.T @ z).T
    assert torch.allclose(corner["2.weight"][:, kept], weights, atol=1e-4)
    assert torch.allclose(corner["2.bias"], target.mean(0) - weights @ hidden[:, kept].mean(0), atol=1e-4)


def conv_net(*, norm=False):
    norms = [nn.BatchNorm2d(6), nn.BatchNorm2d(7)] if norm else [nn.Identity(), nn.Identity()]
    layers = [nn.Conv2d(1, 6, 3, padding=1, bias=not norm), norms[0], nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(6, 7, 3, stride=2, padding="valid" if norm else 1), norms[1], nn.Tanh(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Dropout(0.3), nn.Linear(7 * (1 if norm else 4), 9), nn.ReLU(), nn.Linear(9, 3))


def test_convolutions_are_taken_apart():
    problem = question(conv_net(), shape=(1, 8, 8))
    step = dss.ConvexPath().run(problem)
    proof = prove_by_convexity(problem.judge, step.path)
    assert len(proof.kinds) == 13
    assert proof.upper < 3 * max(problem.loss_start, problem.loss_end) + 0.5


def test_frozen_batch_norm_is_absorbed():
    """Units that stand in for others have other statistics: scale and shift make up for them, exactly."""
    model = conv_net(norm=True)
    for module in model:
        if isinstance(module, nn.BatchNorm2d):
            generator = torch.Generator().manual_seed(4)
            module.running_mean.copy_(torch.randn(len(module.running_mean), generator=generator))
            module.running_var.copy_(torch.rand(len(module.running_var), generator=generator) * 3 + 0.1)
    problem = question(model, shape=(1, 8, 8))
    step = dss.ConvexPath().run(problem)
    proof = prove_by_convexity(problem.judge, step.path)
    assert len(proof.kinds) == 13
    assert proof.upper < 3 * max(problem.loss_start, problem.loss_end) + 0.5


def test_recalibrated_batch_norm_has_the_same_pieces_but_no_proof():
    problem = question(conv_net(norm=True), shape=(1, 8, 8), buffers="recalibrate", steps=15)
    objective = problem.objective.unwrapped
    path = dss.ConvexPath().run(problem).path
    layout = wiring(objective.model, objective.data.take(slice(0, 3)).inputs)
    space = objective.space
    kinds = [kind(layout, space.unflatten(a), space.unflatten(b)) for a, b in pairwise(path.beads)]
    assert None not in kinds and len(kinds) == 13
    losses = objective(path.beads.double())
    for (a, b), found in zip(pairwise(losses), kinds):
        assert found == "convex" or abs(a - b) < 1e-9
    certificate = dss.certify(objective, path, threshold=10.0, prove=True)
    assert certificate.passed and not certificate.proven and certificate.upper is certificate.proof is None
    assert "recalibrated" in certificate.reason and "none can be between" in certificate.reason
    assert certificate.max_loss == pytest.approx(losses.max().item(), rel=1e-4) and certificate.evaluations == 14
    assert not dss.certify(objective, path, threshold=certificate.max_loss * 0.9, prove=True).passed


def refused():
    yield "residual stream", ResidualLayerNorm(), (6,), "chain"
    yield (
        "layer norm",
        nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Linear(6, 3)),
        (5,),
        r"1 \(LayerNorm\) cannot be halved",
    )
    yield "attention", Encoder(), (3, 8), "chain"
    yield "sigmoid at the end", nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3), nn.Sigmoid()), (5,), "outputs"
    yield "a single unit", mlp(4, 1), (5,), "single unit"
    yield "groups", nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)), (2, 4, 4), "groups"


@pytest.mark.parametrize(("name", "model", "shape", "words"), list(refused()), ids=lambda x: x if isinstance(x, str) else "")
def test_what_cannot_be_taken_apart_is_refused_with_the_reason(name, model, shape, words):
    objective = dss.NetworkObjective(model, F.cross_entropy, blobs(shape=shape))
    generator = torch.Generator().manual_seed(0)
    points = [torch.randn(objective.space.size, generator=generator) for _ in range(2)]
    with pytest.raises(dss.InputError, match=words):
        dss.ConvexPath().run(dss.Problem.of(objective, *points, threshold=1e9))


def test_recurrences_are_refused():
    words = torch.randint(7, (8, 4), generator=torch.Generator().manual_seed(0))
    objective = dss.NetworkObjective(WordLSTM(), lambda z, y: F.cross_entropy(z.transpose(1, 2), y), (words, words))
    points = torch.randn(2, objective.space.size, generator=torch.Generator().manual_seed(1))
    with pytest.raises(dss.InputError, match=r"\(LSTM\) cannot be halved: its units read one another"):
        dss.ConvexPath().run(dss.Problem.of(objective, *points, threshold=1e9))


def test_units_are_given_the_rows_nearest_to_their_own():
    generator = torch.Generator().manual_seed(3)
    rows, units = (torch.randn(5, 3, 2, 2, generator=generator).double() for _ in range(2))
    best = min(permutations(range(5)), key=lambda order: (rows[list(order)] - units).square().sum().item())
    assert tuple(nearest(rows, units).tolist()) == best


def test_matched_roles_shorten_the_path_and_leave_its_corners(monkeypatch):
    problem = question(mlp(8, 9, 8))
    matched = dss.ConvexPath().run(problem)
    monkeypatch.setattr(writing, "nearest", lambda rows, units: torch.arange(len(rows)))
    plain = dss.ConvexPath().run(problem)
    assert matched.path.normalized_length < plain.path.normalized_length
    assert torch.allclose(problem.judge(matched.path.beads), problem.judge(plain.path.beads), rtol=1e-4)


def test_other_functions_and_options_are_refused():
    with pytest.raises(dss.InputError, match="a network is needed"):
        dss.ConvexPath().run(dss.Problem.of(dss.Quadratic([1.0, 2.0]), torch.zeros(2), torch.ones(2), threshold=9.0))
    for options in ({"fit": "magic"}, {"halves": "third"}, {"ridge": 0.0}, {"samples": 0}):
        with pytest.raises(dss.InputError):
            dss.ConvexPath(**options)


def test_training_lowers_corners_above_the_threshold():
    problem = question(mlp(8, 8), seed=3)
    fitted = dss.ConvexPath(ridge=1.0).run(problem)
    threshold = (fitted.max_loss + max(problem.loss_start, problem.loss_end)) / 2
    goal = dss.Problem.of(problem.objective.unwrapped, problem.start, problem.end, threshold=threshold)
    assert dss.ConvexPath(ridge=1.0).run(goal).status is dss.Status.STALLED
    step = dss.ConvexPath(ridge=1.0, fit="train").run(goal)
    assert step.status is dss.Status.FOUND and step.gradient_steps > 0
    assert prove_by_convexity(goal.judge, step.path).upper <= goal.threshold


def test_the_same_seed_gives_the_same_path():
    problem = question(mlp(6, 6))
    paths = [dss.ConvexPath(halves="random").run(problem).path.beads for _ in range(2)]
    assert torch.equal(*paths)


def test_connect_proves_it_and_the_command_line_proves_it_again(tiny, tmp_path, capsys):
    out = tmp_path / "run"
    ends = [str(tiny / name) for name in ("a.pt", "b.safetensors")]
    code = main(
        [
            "connect",
            *ends,
            "--task",
            f"{tiny}/task.py:task",
            "--finder",
            "convex",
            "--threshold",
            "0.7",
            "--out",
            str(out),
            "--quiet",
        ]
    )
    assert code == 0
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["proven"], summary["proof"], summary["intermediate_beads"]) == (True, "convexity", 4)
    capsys.readouterr()
    assert main(["certify", str(out), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["proof"], again["upper"]) == ("convexity", summary["upper_bound"])
