"""Obstructions for classifiers with one or two last hidden features: the order of their classes cannot change.

**Two features, no bias in the last layer, K >= 3 classes: a polygon.** Class k has the row v_k of the last weight, a point of
the plane, and the output v_k . h(x). Suppose the triangle v_i v_j v_k is turned over along a path. Somewhere on it the three
are collinear, and one, say v_j = (1 - s) v_i + s v_k, lies between the others; so z_j <= max(z_i, z_k) for every input.
Class j is never strictly the largest: all its samples are errors, where ties count as such, and each has a cross-entropy of
at least log 2. So triangles of different turn are separated by the least frequency of their classes, times log 2 for the
cross-entropy. While every class is predicted, the v_k are the corners of a convex polygon, and the order in which it has them
is the same along every path.

**One feature, with or without bias: a line.** Where v_i = v_j, z_i - z_j is the same number for all inputs: one of the two
classes is never strictly the larger, and the cross-entropy of their samples is at least that of a constant guess between them.

Nothing is asked of the layers below or of the data. That a class inside the hull of the others is never predicted is known
(Cover 1967; Demeter et al. 2020; Grivas et al. 2022). With three features, or two and a bias, classes can be moved around
each other, and there is no such obstruction.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from math import inf, log, nextafter
from typing import Literal

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.base.rounded import below
from dss.enclosure.rounding import TINY, UNIT
from dss.theory.exact import rounded_down
from dss.theory.head import Head, Reading
from dss.theory.obstruction import Obstruction

ClassLoss = Literal["cross_entropy", "error_rate"]


def strict_error_rate(output: Tensor, target: Tensor) -> Tensor:
    """Share of samples whose target class is not strictly the largest output: ties count as errors.

    `dss.error_rate` gives a tie to the class that comes first, which lets a path slip through a wall where scores are equal.

    Args:
        output: `(n, classes)` scores.
        target: `(n,)` integer classes.
    """
    own = output.gather(-1, target[:, None])
    rivals = output.scatter(-1, target[:, None], -inf)
    return (own <= rivals.amax(-1, keepdim=True)).double().mean()


@dataclass(frozen=True, eq=False)
class _ClassObstruction(Obstruction):
    """What the two have in common.

    Attributes:
        threshold: the lowest wall: ends whose orders differ are joined by no path below it.
        counts: samples of each class.
        loss: "cross_entropy", or "error_rate" with ties as errors.
        targets: `(n,)` classes.
    """

    threshold: float
    counts: tuple[int, ...]
    loss: ClassLoss
    targets: Tensor = field(repr=False)
    output_bias: bool
    layer: str | None = None

    def _accepts(self, reading: Reading) -> str | None:
        if self.loss == "error_rate":
            if reading.called is strict_error_rate and reading.averaged:
                return None
            return "the wall is for dss.theory.strict_error_rate, in which ties count as errors; judge by that"
        # No target is ignored: they all are classes.
        options = {name: value for name, value in reading.options.items() if name != "ignore_index"}
        if reading.loss != "cross_entropy" or not reading.averaged or options != {"label_smoothing": 0.0, "reduction": "mean"}:
            return f"the wall is for torch's plain cross_entropy, and the loss is {reading.loss} with {options}"
        return None

    def _words(self) -> str:
        return "a cross-entropy" if self.loss == "cross_entropy" else "an error rate"

    def _share(self, *classes: int) -> Fraction:
        """The least frequency of some classes."""
        return Fraction(min(self.counts[c] for c in classes), sum(self.counts))


@dataclass(frozen=True, eq=False)
class PolygonObstruction(_ClassObstruction):
    """Two features: triangles of classes that are turned over, and by what wall."""

    def triangle(self, first: Tensor, second: Tensor) -> tuple[int, int, int] | None:
        """The classes of the highest wall between two last weights `(K, 2)`; None if no triangle is turned over.

        Raises:
            InputError: weights of another shape, or not finite.
        """
        a, b = (_rows(weight, len(self.counts), 2) for weight in (first, second))
        # Classes from the most frequent on: the first triangle that is turned over has the highest wall.
        order = sorted(range(len(self.counts)), key=lambda c: -self.counts[c])
        for last in range(2, len(order)):
            pairs = torch.combinations(torch.tensor(order[:last]))
            i, j, k = pairs[:, 0], pairs[:, 1], torch.full((len(pairs),), order[last])
            turned = torch.nonzero(_turn(a, i, j, k) * _turn(b, i, j, k) < 0)
            if len(turned):
                at = int(turned[0])
                return int(i[at]), int(j[at]), order[last]
        return None

    def separation(self, first: Head, second: Head) -> float:
        triangle = self.triangle(first.weight, second.weight)
        return -inf if triangle is None else _wall(self._share(*triangle), self.loss)

    def _why(self, first: Head, second: Head, lower: float) -> str:
        classes = ", ".join(map(str, self.triangle(first.weight, second.weight) or ()))
        return (
            f"The rows of classes {classes} of the last layer turn clockwise at one end and counter-clockwise at the other, so "
            f"on every path one of the three lies between the other two somewhere, and its class is never strictly the largest. "
            f"There the network has {self._words()} of at least {below(lower)}."
        )

    def _same(self, first: Head, second: Head) -> str:
        return "no three classes are turned over from one last layer to the other"


@dataclass(frozen=True, eq=False)
class OrderObstruction(_ClassObstruction):
    """One feature: pairs of classes that change places, and by what wall."""

    def pair(self, first: Tensor, second: Tensor) -> tuple[int, int] | None:
        """The classes of the highest wall between two last weights `(K, 1)`; None if no two change places.

        Raises:
            InputError: weights of another shape, or not finite.
        """
        a, b = (_rows(weight, len(self.counts), 1)[:, 0] for weight in (first, second))
        swapped = torch.nonzero((a[:, None] < a) & (b[:, None] > b)).tolist()
        return max(((i, j) for i, j in swapped), key=lambda pair: self._wall(*pair), default=None)

    def separation(self, first: Head, second: Head) -> float:
        pair = self.pair(first.weight, second.weight)
        return -inf if pair is None else self._wall(*pair)

    def _wall(self, i: int, j: int) -> float:
        return _pair_wall(self.counts, self.loss, i, j)

    def _why(self, first: Head, second: Head, lower: float) -> str:
        classes = " and ".join(map(str, self.pair(first.weight, second.weight) or ()))
        return (
            f"The weights of classes {classes} in the last layer come in opposite orders at the ends, so on every path they are equal "
            f"somewhere, and the two outputs differ by a constant. There the network has {self._words()} of at least {below(lower)}."
        )

    def _same(self, first: Head, second: Head) -> str:
        return "no two classes change places from one last layer to the other"


def polygon_obstruction(
    targets: Tensor, *, loss: ClassLoss = "cross_entropy", classes: int | None = None, layer: str | None = None
) -> PolygonObstruction:
    """Walls between classifiers with two last hidden features and no bias in the last layer, whatever lies below.

    The wall of two networks is the largest, over triangles of classes that turn clockwise in one and counter-clockwise in the
    other, of the least of their three frequencies; for the cross-entropy, times log 2.

    Args:
        targets: `(n,)` classes of the judged data.
        loss: "cross_entropy" (torch's, plain), or "error_rate" with ties as errors (`strict_error_rate`).
        classes: K, at least 3; the largest target and one by default.
        layer: name of the last layer in the model, for `between`; None: found.

    Raises:
        InputError: targets that are no classes, or fewer than three classes.
    """
    counts = _counts(targets, loss, classes, 3)
    lowest = _wall(Fraction(min(counts), sum(counts)), loss)
    return PolygonObstruction(lowest, counts, loss, targets.detach(), False, layer)


def order_obstruction(
    targets: Tensor, *, loss: ClassLoss = "cross_entropy", classes: int | None = None, layer: str | None = None
) -> OrderObstruction:
    """Walls between classifiers with one last hidden feature, with or without a bias in the last layer.

    The wall of two networks is the largest over pairs of classes whose weights change places: the lesser frequency for the
    error rate, and (p + p') h(p / (p + p')), h the binary entropy in nats, for the cross-entropy.

    Args:
        targets, loss, layer: as for `polygon_obstruction`.
        classes: K, at least 2.

    Raises:
        InputError: targets that are no classes, or a single class.
    """
    counts = _counts(targets, loss, classes, 2)
    pairs = torch.combinations(torch.arange(len(counts))).tolist()
    lowest = min(_pair_wall(counts, loss, i, j) for i, j in pairs)
    return OrderObstruction(lowest, counts, loss, targets.detach(), True, layer)


def _wall(share: Fraction, loss: ClassLoss) -> float:
    """A share of errors, or the least cross-entropy that it brings, rounded down."""
    # The nearest float64 to log 2 lies below it.
    return rounded_down(share * Fraction(log(2)) if loss == "cross_entropy" else share)


def _pair_wall(counts: tuple[int, ...], loss: ClassLoss, i: int, j: int) -> float:
    """The wall of two classes whose outputs differ by a constant."""
    total, first, second = sum(counts), counts[i], counts[j]
    if loss == "error_rate":
        return rounded_down(Fraction(min(first, second), total))
    if not first or not second:
        return 0.0
    # Three roundings and two logarithms of a sum of positive terms: 1e-15 and more are taken off.
    both = first + second
    return nextafter((first * log(both / first) + second * log(both / second)) / total * (1 - 4e-15), -inf)


def _turn(points: Tensor, i: Tensor, j: Tensor, k: Tensor) -> Tensor:
    """The signs (-1, 0, 1) of det [v_j - v_i, v_k - v_i] for triangles `(t,)` of rows `(K, 2)`, exactly.

    In float64 where the error bound of the determinant leaves no doubt (Shewchuk 1997, orient2d), else as fractions.
    """
    (ax, ay), (bx, by) = (points[j] - points[i]).T, (points[k] - points[i]).T
    left, right = ax * by, bx * ay
    det = left - right
    doubtful = ~(det.abs() > 4 * UNIT * (left.abs() + right.abs()) + TINY)
    signs = det.sign()
    for at in torch.nonzero(doubtful)[:, 0].tolist():
        (px, py), (qx, qy), (rx, ry) = (map(Fraction, points[int(corner[at])].tolist()) for corner in (i, j, k))
        exact = (qx - px) * (ry - py) - (rx - px) * (qy - py)
        signs[at] = (exact > 0) - (exact < 0)
    return signs


def _rows(weight: Tensor, classes: int, features: int) -> Tensor:
    if tuple(weight.shape) != (classes, features) or not weight.is_floating_point() or not weight.isfinite().all():
        raise InputError(
            f"the last layer's weight must be finite real numbers of shape {(classes, features)}, got {tuple(weight.shape)} "
            f"{weight.dtype}"
        )
    return weight.detach().double().cpu()


def _counts(targets: Tensor, loss: str, classes: int | None, least: int) -> tuple[int, ...]:
    """Samples of each class."""
    if loss not in ("cross_entropy", "error_rate"):
        raise InputError(f"loss must be 'cross_entropy' or 'error_rate', got {loss!r}")
    if targets.ndim != 1 or targets.is_floating_point() or targets.is_complex() or not len(targets) or targets.min() < 0:
        raise InputError(f"targets must be classes (n,), whole numbers from 0, got {tuple(targets.shape)} {targets.dtype}")
    counts = torch.bincount(targets, minlength=classes or 0)
    if len(counts) < least or (classes is not None and len(counts) > classes):
        raise InputError(f"targets of {classes or 'at least ' + str(least)} classes are needed, got {len(counts)}")
    return tuple(counts.tolist())
