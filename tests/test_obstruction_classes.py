"""Walls of classifiers: turns of triangles, orders, minors and any-loss walls, against brute force and adversarial features."""

import math
from fractions import Fraction
from itertools import combinations, product

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, huber_loss, l1_loss

import dss
from dss.theory import (
    Head,
    decoder_obstruction,
    multilabel_obstruction,
    order_obstruction,
    polygon_obstruction,
    strict_error_rate,
)


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LABELS = torch.tensor([0] * 5 + [1] * 3 + [2] * 7 + [3] * 4 + [4])


def least_loss(weight, bias, loss, target, *, starts=8, steps=100):
    """The loss that gradient descent over all features reaches from random starts, each sample on its own."""
    features = (draw(1, starts, len(target), weight.shape[1]) * 2).requires_grad_()
    optimizer = torch.optim.Adam([features], lr=0.2)
    for _ in range(steps):
        optimizer.zero_grad()
        outputs = features @ weight.T + bias
        loss(outputs.flatten(0, 1), target.repeat(starts, *[1] * (target.ndim - 1)), reduction="sum").backward()
        optimizer.step()
    with torch.no_grad():
        each = loss((features @ weight.T + bias).flatten(0, 1), target.repeat(starts, *[1] * (target.ndim - 1)), reduction="none")
        each = each.view(starts, len(target), -1).mean(2)
        return each.min(0).values.mean().item()


def turn(weight, i, j, k):
    """The sign of the turn of three rows, in fractions."""
    (px, py), (qx, qy), (rx, ry) = ([Fraction(v) for v in weight[c].tolist()] for c in (i, j, k))
    det = (qx - px) * (ry - py) - (rx - px) * (qy - py)
    return (det > 0) - (det < 0)


@pytest.mark.parametrize("seed", range(4))
def test_the_wall_of_a_polygon_is_the_largest_over_all_turned_triangles(seed):
    a, b = draw(seed + 2, 2, 5, 2)
    b = b if seed else a[[1, 0, 2, 3, 4]]
    counts = torch.bincount(LABELS).tolist()
    turned = [t for t in combinations(range(5), 3) if turn(a, *t) * turn(b, *t) < 0]
    shares = [min(counts[c] for c in t) / len(LABELS) for t in turned]
    expected = max(shares, default=-math.inf)
    errors, entropy = (polygon_obstruction(LABELS, loss=loss) for loss in ("error_rate", "cross_entropy"))
    assert errors.separation(Head(a), Head(b)) == pytest.approx(expected)
    assert entropy.separation(Head(a), Head(b)) == pytest.approx(expected * math.log(2), rel=1e-12)
    assert entropy.separation(Head(a), Head(b)) <= expected * math.log(2) and turned
    assert errors.threshold == pytest.approx(1 / 20) and entropy.separation(Head(a), Head(a)) == -math.inf


@pytest.mark.parametrize("triple", list(combinations(range(4), 3)))
def test_no_features_beat_the_wall_where_three_classes_are_collinear(triple):
    weight, (i, j, k) = draw(sum(triple), 4, 2), triple
    weight[j] = 0.3 * weight[i] + 0.7 * weight[k]
    target = LABELS[LABELS < 4]
    wall = min(torch.bincount(target)[list(triple)]).item() / len(target)
    assert least_loss(weight, 0.0, cross_entropy, target) >= wall * math.log(2)
    for seed in range(200):
        # The best features of a sample are chosen class by class, among many.
        outputs = draw(seed, 300, 2) @ weight.T
        wins = torch.stack([(outputs.argmax(1) == c).any() for c in range(4)])
        assert not wins[j] and strict_error_rate(outputs, torch.full((300,), j)) == 1.0


def test_a_mirror_image_turns_every_triangle_and_a_rotation_none():
    angles = torch.arange(5, dtype=torch.float64) * 2 * math.pi / 5
    regular = torch.stack([angles.cos(), angles.sin()], 1)
    found = polygon_obstruction(LABELS, loss="error_rate")
    assert found.separation(Head(regular), Head(regular[:, [1, 0]])) == pytest.approx(4 / 20)  # classes 0, 2 and 3
    assert found.separation(Head(regular), Head(-3 * regular)) == -math.inf
    assert found.triangle(regular, regular[:, [1, 0]]) == (2, 0, 3)


def test_turns_that_float64_cannot_tell_are_exact():
    line = torch.tensor([[0.0, 0.0], [0.1, 0.3], [0.7, 2.1]], dtype=torch.float64)
    found = polygon_obstruction(torch.tensor([0, 1, 2]))
    sign = turn(line, 0, 1, 2)
    other = torch.tensor([[0.0, 0.0], [0.0, float(sign)], [1.0, 0.0]], dtype=torch.float64)
    assert sign != 0 and found.separation(Head(line), Head(other)) == pytest.approx(math.log(2) / 3)
    assert found.separation(Head(line), Head(other * torch.tensor([-1.0, 1.0]))) == -math.inf
    flat = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]], dtype=torch.float64)
    assert found.separation(Head(flat), Head(other)) == -math.inf


def test_ties_are_errors_only_in_the_strict_rate():
    outputs, target = torch.tensor([[1.0, 1.0, 0.0], [2.0, 1.0, 0.0], [0.0, 1.0, 3.0]]), torch.tensor([0, 0, 1])
    assert strict_error_rate(outputs, target) == 2 / 3 and dss.error_rate(outputs, target) == 1 / 3
    naive = [all(row[c] > row[o] for o in range(3) if o != c) for row, c in zip(outputs.tolist(), target.tolist(), strict=True)]
    assert strict_error_rate(outputs, target) == pytest.approx(1 - sum(naive) / 3)


def test_a_path_slips_through_a_collinear_triple_where_ties_are_given_to_the_first_class():
    """Why the wall is for the strict rate: class 0 crosses the segment of the others with all its scores equal."""
    target = torch.arange(3)
    for height in torch.arange(10, -11, -1) / 10:
        weight = torch.stack([torch.tensor([0.0, height]), torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 0.0])]).double()
        features = torch.tensor([[0.0, float(height.sign())], [-9.0, 0.0], [9.0, 0.0]], dtype=torch.float64)
        assert dss.error_rate(features @ weight.T, target) == 0
        assert (strict_error_rate(features @ weight.T, target) > 0) == (height == 0)


@pytest.mark.parametrize("loss", ["cross_entropy", "error_rate"])
def test_the_order_of_classes_on_a_line_has_the_wall_of_a_constant_guess(loss):
    found, counts = order_obstruction(LABELS, loss=loss), torch.bincount(LABELS).tolist()
    a, b = torch.tensor([[3.0, 1.0, 2.0, 0.0, 5.0]] * 2).double()[..., None]
    b = b.clone()
    b[[0, 2]] = b[[2, 0]]
    assert found.pair(a, b) in ((0, 2), (2, 0))
    p, r, n = counts[0], counts[2], len(LABELS)
    guess = (p * math.log((p + r) / p) + r * math.log((p + r) / r)) / n
    expected = guess if loss == "cross_entropy" else min(p, r) / n
    assert found.separation(Head(a), Head(b)) == pytest.approx(expected, rel=1e-12)
    assert found.separation(Head(a), Head(b)) <= expected and found.separation(Head(a), Head(a)) == -math.inf
    assert 0 < found.threshold <= found.separation(Head(a), Head(b))


@pytest.mark.parametrize("shift", [-1.0, 0.0, 0.336])
def test_no_features_beat_the_wall_where_two_classes_have_one_weight(shift):
    weight = torch.tensor([[1.0], [-2.0], [1.0], [0.3], [-0.7]], dtype=torch.float64)
    bias = torch.tensor([0.0, 3.0, shift, 1.0, -1.0], dtype=torch.float64)
    found = order_obstruction(LABELS)
    wall = found._wall(0, 2)
    reached = least_loss(weight, bias, cross_entropy, LABELS)
    assert reached >= wall
    two = least_loss(weight[[0, 2]], bias[[0, 2]], cross_entropy, (LABELS[(LABELS == 0) | (LABELS == 2)] == 2).long())
    assert two * 12 / 20 >= wall and (shift != 0.336 or two * 12 / 20 == pytest.approx(wall, rel=1e-3))


PATTERNS = torch.tensor(list(product([0, 1], repeat=4)) * 2 + [[0, 0, 1, 1]] * 3, dtype=torch.float64)


@pytest.mark.parametrize("bias", [False, True])
def test_minors_of_multilabel_heads_have_walls_that_no_features_beat(bias):
    size = 2 + bias
    found = multilabel_obstruction(PATTERNS, 2, output_bias=bias)
    rarest = min(
        sum(tuple(row[list(s)].tolist()) in (e, tuple(1 - x for x in e)) for row in PATTERNS)
        for s in combinations(range(4), size)
        for e in product([0.0, 1.0], repeat=size)
    )
    assert found.threshold == pytest.approx(rarest / len(PATTERNS) / 4 * math.log(2), rel=1e-12)
    rows = draw(3, 4, size)
    rows[2] = 0.5 * rows[0] - (1.5 * rows[1] if bias else 0)  # labels 0, 2 (and 1) are dependent
    weight, offset = (rows[:, :2], rows[:, 2]) if bias else (rows, torch.zeros(4, dtype=torch.float64))
    wall = {s: w for w, s in found.minors}[(0, 1, 2) if bias else (0, 2)]
    assert least_loss(weight, offset, binary_cross_entropy_with_logits, PATTERNS) >= wall >= found.threshold


def test_a_multilabel_wall_is_the_highest_of_the_minors_that_change_sign():
    found = multilabel_obstruction(PATTERNS, 2, output_bias=False)
    a, b = draw(0, 4, 2), draw(1, 4, 2)
    minors = {s: torch.linalg.det(a[list(s)]) * torch.linalg.det(b[list(s)]) < 0 for s in combinations(range(4), 2)}
    expected = max((w for w, s in found.minors if minors[s]), default=-math.inf)
    assert found.separation(Head(a), Head(b)) == expected > 0
    assert found.separation(Head(a), Head(a)) == -math.inf


def loss_on_the_wall(y, w, loss, *, bias, delta):
    """The least loss of outputs with w.z = d, for the best d on a grid: in closed form, and by Lagrange multipliers on a grid."""
    places = torch.linspace((y @ w).min().item(), (y @ w).max().item(), 200).double() if bias else torch.zeros(1).double()
    gaps = ((y @ w)[:, None] - places).abs()
    if loss == "l1":
        return (gaps / w.abs().max()).mean(0).min().item() / y.shape[1]
    best = torch.zeros_like(gaps)
    # Lagrange: entries move along w up to delta each, as far as the multiplier says.
    for multiplier in torch.linspace(0, delta / w.abs().max().item(), 100).double():
        best = torch.maximum(best, multiplier * gaps - (multiplier * w).square().sum() / 2)
    return best.mean(0).min().item() / y.shape[1]


@pytest.mark.parametrize("loss, bias", [("l1", False), ("l1", True), ("huber", False), ("huber", True)])
@pytest.mark.parametrize("seed", range(3))
def test_walls_of_other_losses_stay_below_the_least_over_directions(loss, bias, seed):
    y = draw(seed, 11, 4) * torch.tensor([1.0, 0.7, 0.5, 0.2]).double()
    found = decoder_obstruction(y, 2, loss=loss, output_bias=bias, delta=0.6)
    angles = torch.linspace(0, math.pi, 61, dtype=torch.float64)
    directions = torch.stack([angles.cos(), angles.sin()], 1) @ found.directions
    brute = min(loss_on_the_wall(y, w, loss, bias=bias, delta=0.6) for w in directions)
    assert 0 < found.threshold <= brute * (1 + 1e-3)
    assert found.threshold > (0.95 if loss == "l1" else 0.2) * brute


@pytest.mark.parametrize("loss, plain", [("l1", l1_loss), ("huber", huber_loss)])
def test_random_outputs_with_a_constant_combination_stay_above_the_wall(loss, plain):
    y = draw(7, 10, 3)
    found = decoder_obstruction(y, 2, loss=loss, output_bias=True)
    for seed in range(300):
        w = draw(seed, 2) @ found.directions
        z = y + 0.3 * draw(seed + 1, 10, 3) * (seed % 3)
        z = z - torch.outer(z @ w - (z @ w).median(), w) / (w @ w)
        assert plain(z, y) >= found.threshold


def test_chosen_outputs_are_watched_instead_of_principal_directions():
    y = draw(3, 12, 4)
    rows = torch.eye(4, dtype=torch.float64)[:1]
    found = decoder_obstruction(y, 1, loss="l1", output_bias=True, directions=rows)
    assert found.threshold == pytest.approx((y[:, 0] - y[:, 0].median()).abs().sum().item() / 48, rel=1e-9)
    weight = torch.tensor([[2.0], [-1.0], [0.0], [5.0]])
    assert found.layer_orientation(weight) == -found.layer_orientation(-weight) != 0
    assert found.separation(Head(weight), Head(-weight)) == found.threshold


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: polygon_obstruction(torch.tensor([0, 1])), "at least 3 classes"),
        (lambda: polygon_obstruction(LABELS.double()), "whole numbers"),
        (lambda: polygon_obstruction(torch.tensor([0, -100, 2])), "whole numbers"),
        (lambda: polygon_obstruction(LABELS, classes=4), "4 classes"),
        (lambda: order_obstruction(LABELS, loss="mse"), "cross_entropy"),
        (lambda: polygon_obstruction(LABELS).triangle(draw(0, 5, 3), draw(0, 5, 2)), "shape"),
        (lambda: multilabel_obstruction(PATTERNS, 4, output_bias=True), "minors of 5 of 4 labels"),
        (lambda: multilabel_obstruction(PATTERNS * 2, 2, output_bias=True), "zeros and ones"),
        (lambda: multilabel_obstruction(PATTERNS[:1], 1, output_bias=True), "minors of 2"),
        (lambda: multilabel_obstruction(torch.zeros(9, 3), 2, output_bias=False), "every pattern"),
        (lambda: decoder_obstruction(draw(0, 9, 2), 3, loss="l1", output_bias=True), "more than the 2 outputs"),
        (lambda: decoder_obstruction(torch.ones(9, 2), 1, loss="l1", output_bias=True), "no wall is known"),
        (lambda: decoder_obstruction(draw(0, 9, 2), 1, loss="mse", output_bias=True), "bottleneck_obstruction"),
        (lambda: decoder_obstruction(draw(0, 9, 2), 1, loss="huber", output_bias=True, delta=0.0), "delta"),
    ],
)
def test_what_has_no_such_wall_is_refused(make, says):
    with pytest.raises(dss.InputError, match=says):
        make()
