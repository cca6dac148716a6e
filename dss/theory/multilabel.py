"""Obstructions for multi-label classifiers with few last hidden features: minors of the last layer keep their signs.

With N features and no bias, take N of the labels, S, and the rows v_k of the last layer that belong to them. Where their
determinant is zero, sum_S a_k v_k = 0 for some a, not zero, so sum_S a_k z_k(x) = 0 for every input: the outputs in S cannot all
have the signs of a, nor all the opposite ones. Each sample whose labels in S have those signs has one wrong there, ties
counted as wrong, with a binary cross-entropy of at least log 2. So ends where a minor has opposite signs are
separated by the share of samples with the rarest pattern of labels in S, opposite patterns taken together, times log 2. With
a bias, rows (v_k, c_k) and N + 1 labels take their place.

That is: below the walls the chirotope of the last layer's rows is constant on paths.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations
from math import comb, inf, log

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.base.rounded import below
from dss.theory.exact import determinant_sign, integers, rounded_down
from dss.theory.head import Head, Reading
from dss.theory.obstruction import Obstruction

MOST_MINORS = 200_000
"""Sets of labels that are counted at most."""


@dataclass(frozen=True, eq=False)
class MultiLabelObstruction(Obstruction):
    """Ends at which a minor of the last layer has opposite signs are separated by that minor's wall.

    Attributes:
        threshold: the lowest wall.
        minors: (wall, labels S), highest walls first; sets without a wall are left out.
        targets: `(n, q)` of 0 and 1.
        units: N.
    """

    threshold: float
    minors: tuple[tuple[float, tuple[int, ...]], ...] = field(repr=False)
    targets: Tensor = field(repr=False)
    units: int
    output_bias: bool
    layer: str | None = None

    def minor(self, first: Head, second: Head) -> tuple[float, tuple[int, ...]] | None:
        """The highest wall between two last layers, and its labels; None if no minor changes its sign.

        Raises:
            InputError: layers of another shape, or not finite.
        """
        a, b = (integers(_rows(head, self.targets.shape[1], self.units, self.output_bias)) for head in (first, second))
        for wall, labels in self.minors:
            chosen = list(labels)
            if determinant_sign(a[chosen]) * determinant_sign(b[chosen]) < 0:
                return wall, labels
        return None

    def separation(self, first: Head, second: Head) -> float:
        found = self.minor(first, second)
        return -inf if found is None else found[0]

    def _accepts(self, reading: Reading) -> str | None:
        if reading.loss != "binary_cross_entropy_with_logits" or not reading.averaged or reading.options != {"reduction": "mean"}:
            return f"the walls are for torch's plain binary_cross_entropy_with_logits, and the loss is {reading.loss} with {reading.options}"
        return None

    def _why(self, first: Head, second: Head, lower: float) -> str:
        labels = ", ".join(map(str, (self.minor(first, second) or (0, ()))[1]))
        return (
            f"The rows of the labels {labels} in the last layer have determinants of opposite signs at the ends, so on every path their "
            f"outputs are linearly dependent somewhere, the same way for all inputs. Samples with every pattern of these labels exist, "
            f"and some get one wrong: the binary cross-entropy is at least {below(lower)} there."
        )

    def _same(self, first: Head, second: Head) -> str:
        return "no minor with a wall changes its sign from one last layer to the other"


def multilabel_obstruction(targets: Tensor, units: int, *, output_bias: bool, layer: str | None = None) -> MultiLabelObstruction:
    """Walls between multi-label classifiers with few last hidden features, for torch's `binary_cross_entropy_with_logits`.

    Args:
        targets: `(n, q)` of zeros and ones.
        units: N, of the last hidden layer.
        output_bias: whether the last layer has a bias; minors then have N + 1 labels.
        layer: name of the last layer in the model, for `between`; None: found.

    Raises:
        InputError: targets that are no labels; no set of labels of which the data holds every pattern or its opposite; too many sets.
    """
    if targets.ndim != 2 or not bool(((targets == 0) | (targets == 1)).all()) or not len(targets):
        raise InputError(f"targets must be labels (n, q), zeros and ones, got {tuple(targets.shape)} {targets.dtype}")
    if isinstance(units, bool) or not isinstance(units, int) or units < 1:
        raise InputError(f"units must be a positive whole number, got {units!r}")
    n, q = targets.shape
    size = units + output_bias
    if size > q or 2 ** (size - 1) > n or comb(q, size) > MOST_MINORS:
        raise InputError(
            f"minors of {size} of {q} labels on {n} samples: at most {q} labels, 2^(labels - 1) <= samples and {MOST_MINORS:,} sets can "
            "be had; use fewer units, or fewer labels"
        )
    labels = targets.detach().bool().cpu()
    walls = ((_wall(labels[:, list(chosen)], q), chosen) for chosen in combinations(range(q), size))
    minors = tuple(sorted((pair for pair in walls if pair[0] > 0), key=lambda pair: -pair[0]))
    if not minors:
        raise InputError(f"of no {size} labels does the data hold every pattern or its opposite: there is no wall")
    return MultiLabelObstruction(minors[-1][0], minors, targets.detach(), units, output_bias, layer)


def _wall(labels: Tensor, outputs: int) -> float:
    """The share of the rarest pattern and its opposite in labels `(n, s)`, times log 2 over the outputs, rounded down."""
    flipped = labels ^ labels[:, :1]  # a pattern and its opposite look the same
    codes = (flipped[:, 1:].long() * 2 ** torch.arange(labels.shape[1] - 1)).sum(1)
    rarest = int(torch.bincount(codes, minlength=2 ** (labels.shape[1] - 1)).min())
    # The nearest float64 to log 2 lies below it.
    return rounded_down(Fraction(rarest, len(labels) * outputs) * Fraction(log(2)))


def _rows(head: Head, outputs: int, units: int, bias: bool) -> Tensor:
    """The rows of the labels `(q, N)`, with a column of biases if there may be one."""
    weight = head.weight.detach().double().cpu()
    if tuple(weight.shape) != (outputs, units):
        raise InputError(f"the last layer's weight must have shape {(outputs, units)}, got {tuple(weight.shape)}")
    if bias:
        offset = torch.zeros(outputs, dtype=torch.float64) if head.bias is None else head.bias.detach().double().cpu()
        weight = torch.cat([weight, offset[:, None]], 1)
    if not weight.isfinite().all():
        raise InputError("the last layer must be finite, got NaN or infinity")
    return weight
