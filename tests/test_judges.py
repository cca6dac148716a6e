"""The error rate, against loops over single predictions, in every layout that cross-entropy has and for single scores."""

from functools import partial
from itertools import product

import pytest
import torch
from torch import nn

import dss

N, CLASSES = 7, 3


def scores(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def classes(*shape, high=CLASSES, seed=1):
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def counted(output, target, ignore=None):
    """Errors and predictions, one after the other."""
    errors = total = 0
    for place in product(*(range(size) for size in target.shape)):
        if target[place] == ignore:
            continue
        right = int(target[place])
        column = output[(place[0], slice(None), *place[1:])].tolist()
        errors += column.index(max(column)) != right
        total += 1
    return errors, total


@pytest.mark.parametrize("rest", [(), (5,), (2, 4)])
def test_classes_are_on_axis_1_and_every_place_counts(rest):
    output, target = scores(N, CLASSES, *rest), classes(N, *rest)
    errors, total = counted(output, target)
    assert 0 < errors < total
    assert dss.error_rate(output, target).item() == pytest.approx(errors / total, abs=1e-15)


@pytest.mark.parametrize("rest", [(), (CLASSES,), (2, 4)])
def test_ignored_places_are_neither_right_nor_wrong(rest):
    output, target = scores(N, CLASSES, *rest), classes(N, *rest)
    target.view(-1)[::3] = -100
    errors, total = dss.error_rate(output, target, ignore_index=-100)
    assert (errors.item(), total.item()) == counted(output, target, ignore=-100)


def test_a_batch_of_padding_alone_has_no_errors_and_no_predictions():
    errors, total = dss.error_rate(scores(2, CLASSES), torch.full((2,), -1), ignore_index=-1)
    assert errors.item() == total.item() == 0


@pytest.mark.parametrize("rest", [(), (4,), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.int64, torch.bool])
def test_one_hot_rows_are_their_classes(rest, dtype):
    output, target = scores(N, CLASSES, *rest), classes(N, *rest)
    rows = nn.functional.one_hot(target, CLASSES).movedim(-1, 1).to(dtype)
    assert torch.equal(dss.error_rate(output, rows), dss.error_rate(output, target))


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bool, torch.uint8])
@pytest.mark.parametrize(
    ("output", "target"), [((N,), (N,)), ((N, 1), (N,)), ((N, 1), (N, 1)), ((N, 1, 5), (N, 5)), ((N, 1, 2, 3), (N, 1, 2, 3))]
)
def test_single_scores_are_compared_with_a_threshold(output, target, dtype):
    logits, right = scores(*output), classes(*target, high=2)
    wrong = sum((z > 0) != bool(y) for z, y in zip(logits.flatten().tolist(), right.flatten().tolist(), strict=True))
    expected = wrong / right.numel()
    assert dss.error_rate(logits, right.to(dtype)).item() == pytest.approx(expected, abs=1e-15)
    assert dss.error_rate(logits.sigmoid(), right.to(dtype), threshold=0.5).item() == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("output", "target", "message"),
    [
        (scores(4, 5, CLASSES), classes(4, 5), r"move the classes to axis 1"),
        (scores(4, CLASSES), classes(4).double(), r"float64 targets \(4,\)"),
        (scores(4, CLASSES), classes(4, 1), r"int64 targets \(4, 1\)"),
        (scores(()), torch.tensor(1), r"got scores \(\)"),
        (scores(4, CLASSES), classes(4, high=2) - 100, r"0 to 2, got -100 to -99; padding"),
        (scores(4, CLASSES), torch.tensor([0, 1, 2, 3]), r"0 to 2, got 0 to 3"),
        (scores(4), torch.tensor([0, 1, 2, 1]), r"0 to 1, got 0 to 2"),
        (scores(4, 1), torch.tensor([[0.0], [1.0], [0.3], [1.0]]), r"numbers in between"),
        (scores(2, CLASSES), torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), r"several at once"),
        (scores(2, CLASSES), torch.tensor([[0.8, 0.1, 0.1], [1.0, 0.0, 0.0]]), r"soft labels"),
        (scores(2, CLASSES), torch.tensor([[2.0, -1.0, 0.0], [1.0, 0.0, 0.0]]), r"neither classes nor one-hot"),
    ],
)
def test_what_has_no_error_rate_is_refused_with_the_cause(output, target, message):
    with pytest.raises(dss.InputError, match=message):
        dss.error_rate(output, target)


class Tokens(nn.Module):
    """Scores `(n, classes, tokens)`."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.layer(x).transpose(1, 2)


def judged(name):
    """A model, its data and the shares of errors a loop over points finds."""
    if name == "classes":
        return nn.Linear(4, CLASSES), scores(30, 4), classes(30)
    if name == "tokens":
        return Tokens(), scores(30, 5, 4), classes(30, 5)
    if name == "logit":
        return nn.Linear(4, 1), scores(30, 4), classes(30, high=2).double()
    return nn.Linear(4, CLASSES), scores(30, 4), nn.functional.one_hot(classes(30), CLASSES).double()


@pytest.mark.parametrize("rows", ["vmap", "loop"])
@pytest.mark.parametrize("name", ["classes", "tokens", "logit", "one-hot"])
def test_a_judge_gives_the_share_of_errors_of_every_point(name, rows):
    model, x, y = judged(name)
    model = model.double()
    judge = dss.NetworkObjective(model, dss.error_rate, (x, y), rows=rows)
    points = scores(4, judge.space.size, seed=2)
    for point, rate in zip(points, judge(points), strict=True):
        nn.utils.vector_to_parameters(point, model.parameters())
        assert rate.item() == pytest.approx(dss.error_rate(model(x), y).item(), abs=1e-12)


@pytest.mark.parametrize("name", ["classes", "tokens", "logit", "one-hot"])
def test_bounds_lie_above_the_share_of_errors_everywhere_on_a_cell(name):
    model, x, y = judged(name)
    judge = dss.NetworkObjective(model.double(), dss.error_rate, (x, y))
    start, end = scores(2, judge.space.size, seed=3)
    lower, upper = torch.tensor([0.0, 0.4, 0.9], dtype=torch.float64), torch.tensor([0.1, 0.41, 1.0], dtype=torch.float64)
    bounds = judge.enclose(start.expand(3, -1), end.expand(3, -1), lower, upper).amax(1)
    for low, high, bound in zip(lower.tolist(), upper.tolist(), bounds.tolist(), strict=True):
        t = torch.linspace(low, high, 25, dtype=torch.float64)[:, None]
        assert judge(start + t * (end - start)).max().item() <= bound + 1e-12
    assert bounds[1] < 1


def test_errors_among_what_counts_are_judged_and_bounded():
    model, x, y = judged("tokens")
    y[10:, 2:] = -100
    y[3] = -100
    loss = partial(dss.error_rate, ignore_index=-100)
    judge = dss.NetworkObjective(model.double(), loss, (x, y))
    start, end = scores(2, judge.space.size, seed=4)

    def rate(t):
        nn.utils.vector_to_parameters(start + t * (end - start), model.parameters())
        errors, total = counted(model(x), y, ignore=-100)
        return errors / total

    for t in (0.0, 0.5, 1.0):
        assert judge((start + t * (end - start))[None]).item() == pytest.approx(rate(t), abs=1e-12)
    lower = torch.tensor([0.3], dtype=torch.float64)
    bound = judge.enclose(start[None], end[None], lower, lower + 0.02).max().item()
    assert max(rate(0.3 + 0.001 * i) for i in range(21)) <= bound + 1e-12 < 1
