"""The bottleneck obstruction: no path below a loss that the targets alone determine, for squared errors.

A network z = W h(x) + c with N last hidden units is judged by the squared error on targets Y `(n, q)`, centred if there is a
bias c. Let l_1 >= l_2 >= ... be the eigenvalues of Y'Y (the squared singular values of Y) and R `(N, q)` the top N eigenvectors.

**Wall.** If det(R W) = 0, there is w = R'b, not zero, with W'w = 0: the combination w of the outputs is the same for all
inputs. With |w| = 1 the error is at least |Y w|^2 along w and, across it, what is left of Y beyond its best approximation of
rank N. The first is at least l_N; the second is at least the sum of l_i over i >= N + 2, because Y without one direction has
singular values that interlace with those of Y. So the error is at least

    B = l_N + sum_{i >= N + 2} l_i.

**Orientation.** det(R W) is continuous along a path, so ends where its signs differ are joined by no path below B. The best
loss possible is sum_{i > N} l_i (Eckart & Young 1936), so there is room for ends below B when l_N > l_{N+1}.

**By features.** With Phi `(n, N)`, the features of the samples, centred like Y, the sign of det(R Y'Phi) is the same thing:
where it is 0, some u = Y R'b has u'Phi = 0 and the error is at least |Y'u|^2/|u|^2 >= |Y w|^2/|w|^2 = l_N at least (Cauchy and
Schwarz), beyond it as before; and below B, moving W straight to the least-squares optimum keeps the loss below B and
ends at det(R Y'Phi) det(R W) = det(R Y' P Y R') >= 0, P the projection on the features.

**Numbers.** R need not be exact: the argument holds for any fixed rows of rank N, with the least of |Y w|^2/|w|^2 over their
span in place of l_N. So R is what floating-point arithmetic gave, that least is bounded from below, and signs of
determinants are computed in integers: what is returned holds for the stored numbers.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.theory.exact import determinant_sign, integers, rounded_down
from dss.theory.head import Head, Reading
from dss.theory.obstruction import Obstruction
from dss.theory.spectrum import Enclosed, Spectrum, gram_of_residuals, least_over_rows

NONE = -float("inf")


@dataclass(frozen=True, eq=False)
class BottleneckObstruction(Obstruction):
    """Ends of different orientation are joined by no path below `threshold`.

    Attributes:
        threshold: B, rounded down.
        best: a lower bound on the loss of every network with so many last hidden units: `threshold - best` is the height of
            the window in which disconnection can be seen.
        units: N.
        directions: R, `(N, q)` float64.
        targets: `(n, q)` as given.
        regressors: `(n, m)` what the outputs may depend on linearly beside the features, ones for a bias among them.
        reduction: "mean" over the n q entries, or "sum".
    """

    threshold: float
    best: float
    units: int
    directions: Tensor = field(repr=False)
    targets: Tensor = field(repr=False)
    regressors: Tensor = field(repr=False)
    output_bias: bool
    reduction: Literal["mean", "sum"] = "mean"
    layer: str | None = None

    def orientation(self, features: Tensor) -> int:
        """The sign (-1, 0 or 1) of det(R Y'Phi), exactly for the given numbers: 0 only where the loss is at least `threshold`.

        Args:
            features: Phi `(n, N)`, the last hidden features of the samples, uncentred.

        Raises:
            InputError: features of another shape, or not finite.
        """
        check_matrix(features, "features", (len(self.targets), self.units))
        phi, known = integers(features), integers(self.regressors)
        rows = integers(self.directions) @ integers(self.targets).T
        # What is left of Phi and Y after the regressors F is a Schur complement, and det(F'F) > 0: no division is needed.
        return determinant_sign(np.block([[known.T @ known, known.T @ phi], [rows @ known, rows @ phi]]))

    def layer_orientation(self, weight: Tensor) -> int:
        """The sign (-1, 0 or 1) of det(R W), exactly: 0 only where the loss is at least `threshold`.

        Args:
            weight: W `(q, N)`, the last layer's, as `nn.Linear` stores it.

        Raises:
            InputError: a weight of another shape, or not finite.
        """
        check_matrix(weight, "the last layer's weight", (self.targets.shape[1], self.units))
        return determinant_sign(integers(self.directions) @ integers(weight))

    def separation(self, first: Head, second: Head) -> float:
        signs = {self.layer_orientation(head.weight) for head in (first, second)}
        return self.threshold if signs == {-1, 1} else NONE

    def _accepts(self, reading: Reading) -> str | None:
        extra = self.regressors.shape[1] - self.output_bias
        if extra:
            return "whether the model adds no more than the given regressors to its last layer is not known; compare orientations"
        plain = reading.options == {"reduction": self.reduction} and reading.averaged == (self.reduction == "mean")
        if reading.loss != "mse_loss" or not plain:
            return f"the wall is for torch's mse_loss with reduction {self.reduction!r}, and the loss is {reading.loss}"
        return None

    def _why(self, first: Head, second: Head, lower: float) -> str:
        signs = [f"{self.layer_orientation(head.weight):+d}" for head in (first, second)]
        return (
            f"The last layers of the ends have opposite orientations ({' and '.join(signs)}, the signs of det R W), so on every path "
            f"between them some combination of the outputs is the same for all inputs. On these targets no network with "
            f"{self.units} last hidden units has a squared error below {lower:.6g} there."
        )

    def _same(self, first: Head, second: Head) -> str:
        signs = [f"{self.layer_orientation(head.weight):+d}" for head in (first, second)]
        return f"their last layers have the orientations {' and '.join(signs)}, which a path below {self.threshold:.6g} may join"


def bottleneck_obstruction(
    targets: Tensor,
    units: int,
    *,
    output_bias: bool,
    regressors: Tensor | None = None,
    span: Tensor | None = None,
    reduction: Literal["mean", "sum"] = "mean",
    layer: str | None = None,
) -> BottleneckObstruction:
    """A loss below which networks with few last hidden units fall into two sides, by the squared error on targets.

    The network may be any function below its last hidden layer; ends may be trained apart or be copies with two units swapped.

    Args:
        targets: Y `(n, q)`, in the precision in which the loss is computed.
        units: N, of the last hidden layer.
        output_bias: whether the last layer has a bias.
        regressors: `(n, m)`; the output may also hold any linear function of these, such as the inputs of a trainable skip
            connection.
        span: `(n, m)`; the features are always linear combinations of these columns: the inputs (and ones, if hidden layers
            have biases) of a linear network. The wall is then higher.
        reduction: of the loss: "mean" over all n q entries as torch's `mse_loss` has it, or "sum".
        layer: name of the last layer in the model, for `between`; None: found.

    Returns:
        The obstruction: `threshold` is its wall, as a rigorous lower bound.

    Raises:
        InputError: more units than the rank of the (centred) targets, where no wall exists; no gap between the singular values
            N and N + 1, where the wall is no higher than the best loss possible; data that cannot be used.

    Source: for N = n the determinant of features is known (Nguyen 2021); B is a critical value of linear autoencoders (Baldi &
        Hornik 1989). See docs/obstructions.md.
    """
    _check_options(units, reduction)
    y = real_matrix(targets, "targets", None)
    ones = [torch.ones(len(y), 1, dtype=torch.float64)] if output_bias else []
    known = torch.cat([*ones, _columns(regressors, "regressors", len(y))], 1)
    gram, floor = gram_of_residuals(y, known), 0.0
    if span is not None:
        beyond = gram_of_residuals(y, torch.cat([known, _columns(span, "span", len(y))], 1))
        gram, floor = gram - beyond, max(0.0, beyond.least_trace)
    return _obstruction(targets, y, known, gram, floor, units, output_bias, reduction, layer)


def _obstruction(targets, y, known, gram: Enclosed, floor: float, units: int, bias: bool, reduction, layer):
    """Bound the wall of the top rows, and see that it stands above the best loss."""
    spectrum = Spectrum.of(gram)
    if units > min(y.shape) or not spectrum.values[units - 1] > spectrum.radius:
        raise InputError(
            f"{units} units are more than the rank of the targets {tuple(y.shape)}{', centred,' if bias else ''} as far as float64 "
            "shows: every loss can then be had on both sides, and no wall exists; a smaller bottleneck has one"
        )
    rows = spectrum.vectors[:, :units].T.contiguous()
    wall = floor + least_over_rows(gram, rows) + spectrum.sums_from(units + 1)[0]
    best, most = (floor + total for total in spectrum.sums_from(units))
    if not wall > most:
        raise InputError(
            f"the singular values {units} and {units + 1} of the targets are equal as far as float64 shows: the wall is no higher "
            "than the best loss possible, and the orientation is not defined; another number of units may have a gap"
        )
    share = Fraction(1, y.numel()) if reduction == "mean" else Fraction(1)
    # Two additions were rounded to nearest: 1e-15 covers them.
    threshold, best = (rounded_down(Fraction(value) * share * (1 - Fraction(1, 10**15))) for value in (wall, best))
    return BottleneckObstruction(threshold, best, units, rows, targets.detach(), known, bias, reduction, layer)


def _check_options(units: int, reduction: str) -> None:
    if isinstance(units, bool) or not isinstance(units, int) or units < 1:
        raise InputError(f"units must be a positive whole number, got {units!r}")
    if reduction not in ("mean", "sum"):
        raise InputError(f"reduction must be 'mean' or 'sum', got {reduction!r}")


def _columns(values: Tensor | None, name: str, samples: int) -> Tensor:
    """Columns that are not zero, `(n, m)`: zero ones (a pixel never lit) add nothing."""
    if values is None:
        return torch.empty(samples, 0, dtype=torch.float64)
    values = real_matrix(values, name, samples)
    return values[:, (values != 0).any(0)]


def real_matrix(values: Tensor, name: str, rows: int | None) -> Tensor:
    values = torch.as_tensor(values).detach()
    if values.ndim != 2 or not values.is_floating_point() or not values.numel() or (rows and len(values) != rows):
        raise InputError(f"{name} must be real numbers ({rows or 'samples'}, columns), got {tuple(values.shape)} {values.dtype}")
    if not values.isfinite().all():
        raise InputError(f"{name} must be finite, got NaN or infinity")
    return values.double().cpu()


def check_matrix(values: Tensor, name: str, shape: tuple[int, int]) -> None:
    if tuple(values.shape) != shape or not values.is_floating_point() or not values.isfinite().all():
        raise InputError(f"{name} must be finite real numbers of shape {shape}, got {tuple(values.shape)} {values.dtype}")
