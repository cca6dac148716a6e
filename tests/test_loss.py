"""The judged loss is the number that the user's own plain computation gives, whatever the chunks, and bounds lie above it."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from losses import CLASSES, SUMS, WEIGHTS, WHOLE, N, X, mlp, tokens_pair
from torch import nn
from torch.func import functional_call

import dss

# The oracle calls what torch warns of as it is.
pytestmark = [pytest.mark.filterwarnings("ignore:size_average"), pytest.mark.filterwarnings("ignore:reduction")]

CHUNKS = "dss.objectives.network.pieces.CHUNK_BYTES"
CASES = [(name, case, False) for name, case in SUMS.items()] + [(name, case, True) for name, case in WHOLE.items()]
# torch's losses of which the enclosure has no rule; all others must be bounded.
UNBOUNDED = {
    "poisson": "poisson_nll_loss",
    "gaussian": "gaussian_nll_loss",
    "margin": "multi_margin_loss",
    "many labels": "multilabel_soft_margin_loss",
}
every_loss = pytest.mark.parametrize(("case", "whole"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])


def points(model, k, dtype=torch.float64):
    centre = nn.utils.parameters_to_vector(model.parameters()).detach().to(dtype)
    return centre + 0.4 * torch.randn(k, len(centre), generator=torch.Generator().manual_seed(9), dtype=dtype)


def number(found):
    """What a loss returned, as one number: a pair is its quotient, a vector its mean."""
    if isinstance(found, tuple):
        return found[0].sum() / found[1].sum()
    return found.mean()


def double(loss):
    """The loss with class weights in float64, as a user with a float64 model would have it."""
    if isinstance(loss, nn.Module):
        return copy.deepcopy(loss).double()
    if isinstance(loss, partial):
        return partial(loss.func, **{k: v.double() if isinstance(v, torch.Tensor) else v for k, v in loss.keywords.items()})
    return loss


def plain(case, point):
    """All the data through the model at once, in float64, and the loss as it was given."""
    build, loss, x, y = case
    model, (x, y) = build().double(), (t.double() if t.is_floating_point() else t for t in (x, y))
    names = dss.ParameterSpace.of(model).unflatten(point)
    with torch.no_grad():
        return number(double(loss)(functional_call(model, names, (x,)), y)).item()


@every_loss
def test_the_value_is_the_users_own_whatever_the_chunks(case, whole, monkeypatch):
    build, loss, x, y = case
    at = points(build(), 3)
    expected = torch.tensor([plain(case, point) for point in at], dtype=torch.float64)
    for size in (2**28, 1500, 1):
        monkeypatch.setattr(CHUNKS, size)
        objective = dss.NetworkObjective(build(), loss, (x, y), whole=whole)
        torch.testing.assert_close(objective(at), expected, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(objective(at.float()), expected, rtol=1e-4, atol=1e-5)


@every_loss
def test_the_plain_computation_is_the_users_own_in_one_piece(case, whole, monkeypatch):
    build, loss, x, y = case
    calls, at = [], points(build(), 2)
    monkeypatch.setattr(CHUNKS, 1)
    objective = dss.NetworkObjective(build(), loss, (x, y), whole=whole)
    model = objective.model
    model.register_forward_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(
        objective.plain(at), torch.tensor([plain(case, p) for p in at], dtype=torch.float64), rtol=1e-10, atol=1e-12
    )
    assert len(calls) == 2
    some = objective.on_samples(torch.tensor([2, 0, 27]))
    assert (some is None) == whole and objective.samples_at_once == N
    if some is not None:
        torch.testing.assert_close(some.plain(at), some(at), rtol=1e-10, atol=1e-12)


@every_loss
def test_the_gradient_is_that_of_the_users_own_value(case, whole, monkeypatch):
    build, loss, x, y = case
    monkeypatch.setattr(CHUNKS, 2000)
    point = points(build(), 2).requires_grad_()
    (slope,) = torch.autograd.grad(dss.NetworkObjective(build(), loss, (x, y), whole=whole)(point).sum(), point)
    along = torch.randn(point.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for row, direction, gradient in zip(point.detach(), along, slope):
        quotient = (plain(case, row + 1e-6 * direction) - plain(case, row - 1e-6 * direction)) / 2e-6
        assert (gradient @ direction).item() == pytest.approx(quotient, rel=1e-4, abs=1e-7)


bounded = [case for case in CASES if case[0] not in UNBOUNDED]


@pytest.mark.parametrize("name", UNBOUNDED)
def test_a_loss_without_a_rule_is_refused_by_its_name(name):
    build, loss, x, y = SUMS[name]
    objective, (start, end) = dss.NetworkObjective(build(), loss, (x, y)), points(build(), 2)
    with pytest.raises(dss.EnclosureError, match=UNBOUNDED[name]):
        objective.enclose(start[None], end[None], torch.tensor([0.2]), torch.tensor([0.4]))


@pytest.mark.parametrize(("case", "whole"), [case[1:] for case in bounded], ids=[case[0] for case in bounded])
def test_bounds_lie_above_the_value_of_the_whole_data(case, whole):
    build, loss, x, y = case
    objective, (start, end) = dss.NetworkObjective(build(), loss, (x, y), whole=whole), points(build(), 2)
    cuts = torch.linspace(0, 1, 5, dtype=torch.float64)
    bounds = objective.enclose(start.expand(4, -1), end.expand(4, -1), cuts[:-1], cuts[1:]).amax(1)
    assert bounds.isfinite().all()
    for bound, low, high in zip(bounds, cuts, cuts[1:]):
        seen = [plain(case, start + t * (end - start)) for t in torch.linspace(low, high, 9, dtype=torch.float64)]
        assert bound >= max(seen) - 1e-12 * abs(max(seen))
        assert bound <= max(seen) + 0.3 * max(abs(max(seen)), 1)


def test_bounds_of_parts_of_the_data_in_chunks_are_those_of_all_together(monkeypatch):
    build, loss, x, y = SUMS["class weights"]
    objective, (start, end) = dss.NetworkObjective(build(), loss, (x, y)), points(build(), 2)
    cell = start[None], end[None], torch.tensor([0.2]), torch.tensor([0.4])
    together = objective.enclose(*cell)
    monkeypatch.setattr("dss.objectives.network.objective.CELL_BYTES", 2000)
    torch.testing.assert_close(objective.enclose(*cell), together, rtol=1e-12, atol=0)


def test_a_path_is_proved_for_a_weighted_loss_and_for_a_loss_of_the_whole_data():
    for (build, loss, x, y), whole in ((SUMS["class weights"], False), (WHOLE["contrastive"], True)):
        objective, beads = dss.NetworkObjective(build(), loss, (x, y), whole=whole), points(build(), 2)
        bracket = dss.bracket(objective, dss.Path(beads), tolerance=0.02)
        assert bracket.seen <= bracket.upper <= 1.02 * bracket.seen + 1e-9
        assert bracket.seen <= bracket.upper and bracket.seen == pytest.approx(
            max(plain((build, loss, x, y), torch.lerp(*beads, t)) for t in torch.linspace(0, 1, 65).double()), rel=0.02
        )


@pytest.mark.parametrize("name", ["class weights", "ignored", "pair, mask", "sum of squares"])
def test_minibatches_and_parts_estimate_the_whole(name):
    build, loss, x, y = SUMS[name]
    objective = dss.NetworkObjective(build(), loss, (x, y), batch_size=7)
    at = points(build(), 2)
    draws = torch.stack([objective.estimate(at, torch.Generator().manual_seed(i)) for i in range(400)])
    assert ((draws.mean(0) - objective(at)).abs() < 4 * draws.std(0) / 20).all()
    part, places = objective.part(8), [i * N // 8 for i in range(8)]
    own = dss.NetworkObjective(build(), loss, (x[places], y[places]))
    share = N / 8 if name == "sum of squares" else 1  # a sum over some samples stands for that over all
    torch.testing.assert_close(part(at), own(at) * share, rtol=1e-10, atol=0)


def test_a_part_that_weighs_nothing_is_none():
    target = torch.full((N,), -100)
    target[3] = 1
    objective = dss.NetworkObjective(mlp(), F.cross_entropy, (X, target))
    assert objective.part(2) is None and objective.part(N) is not None
    with pytest.raises(dss.InputError, match="add up to 0"):
        dss.NetworkObjective(mlp(), F.cross_entropy, (X, torch.full((N,), -100)))


def test_a_loss_of_the_whole_data_has_no_parts_and_no_minibatches():
    build, loss, x, y = WHOLE["dice"]
    objective = dss.NetworkObjective(build(), loss, torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, y), batch_size=4), whole=True)  # fmt: skip
    at = points(build(), 2)
    assert objective.part(5) is None and objective.batch_samples == N
    assert torch.equal(objective.estimate(at, torch.Generator()), objective(at))
    with pytest.raises(dss.InputError, match="minibatches"):
        dss.NetworkObjective(build(), loss, (x, y), whole=True, batch_size=4)


def test_a_label_out_of_range_is_said_to_be_the_datas_wherever_it_stands():
    labels = CLASSES.clone()
    labels[17] = 3
    with pytest.raises(dss.InputError, match="the loss raises"):
        dss.NetworkObjective(mlp(), nn.CrossEntropyLoss(weight=WEIGHTS), (X, labels))


def test_a_loss_of_pairs_trains_too():
    build, loss, x, y = SUMS["pair, tokens"]
    task = dss.Task(build(), loss, (x, y), epochs=3)
    *_, last = dss.train(task, seed=0)
    assert last.loss < next(iter(dss.train(task, seed=0))).loss and loss is tokens_pair
