"""The wall of a narrow last layer for losses other than the squared error: absolute and Huber's.

As in `bottleneck`: rows R `(N, q)` are fixed, and where the sign of det(R W) differs at the ends, every path has a point at
which some w = R'b, not zero, gives w.z(x) = d for all inputs x (d = 0 without a bias). What is left is a problem about the
targets alone, the least over b and d of the mean over samples of min { loss(z, y_i) : w.z = d }:

**Absolute error.** That minimum is |w.y_i - d| / max_k |w_k|. With w_k = 1 the largest entry, one linear program for each k:
least sum_i |w.y_i - d| over |w_j| <= 1. Its solver is not trusted: any numbers s_i in [-1, 1] and any v with R v = 0 give, for
t = Y's + v, the lower bound t_k - sum_{j != k} |t_j| (less |d| |sum s_i|), which the solver's multipliers make sharp.

**Huber's loss.** With |w| = 1 that minimum is Huber's function of w.y_i - d with delta / max_k |w_k| in place of delta (its
conjugate is a square on an interval), and max_k |w_k| is at most M, the largest column of R. Up to the largest residual rho
it is at least a share kappa of the squared one: kappa = 2c/rho - (c/rho)^2, c = min(delta/M, rho). So kappa/2 of the variance
of w.y is a wall.
"""

from dataclasses import dataclass, field
from math import inf, nextafter, sqrt
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.base.rounded import below
from dss.enclosure.rounding import WIDE, gamma
from dss.theory.bottleneck import check_matrix, real_matrix
from dss.theory.exact import determinant_sign, integers
from dss.theory.head import Head, Reading
from dss.theory.obstruction import Obstruction
from dss.theory.spectrum import Spectrum, gram_of_residuals, least_over_rows, norm, orthonormal_defect

DecoderLoss = Literal["l1", "huber"]
FUNCTIONS = {"l1": "l1_loss", "huber": "huber_loss"}


@dataclass(frozen=True, eq=False)
class DecoderObstruction(Obstruction):
    """Ends whose last layers have different signs of det(R W) are joined by no path below `threshold`.

    Attributes:
        threshold: the wall, rounded down; the mean over all n q entries.
        loss: "l1" or "huber".
        directions: R, `(N, q)` float64, nearly orthonormal.
        targets: `(n, q)`.
        delta: of Huber's loss.
    """

    threshold: float
    loss: DecoderLoss
    directions: Tensor = field(repr=False)
    targets: Tensor = field(repr=False)
    output_bias: bool
    delta: float = 1.0
    layer: str | None = None

    def layer_orientation(self, weight: Tensor) -> int:
        """The sign (-1, 0 or 1) of det(R W), exactly, for the last layer's weight W `(q, N)`.

        Raises:
            InputError: a weight of another shape, or not finite.
        """
        check_matrix(weight, "the last layer's weight", (self.targets.shape[1], len(self.directions)))
        return determinant_sign(integers(self.directions) @ integers(weight))

    def separation(self, first: Head, second: Head) -> float:
        signs = {self.layer_orientation(head.weight) for head in (first, second)}
        return self.threshold if signs == {-1, 1} else -inf

    def _accepts(self, reading: Reading) -> str | None:
        options, wanted = reading.options, {"reduction": "mean"} | ({"delta": self.delta} if self.loss == "huber" else {})
        if reading.loss != FUNCTIONS[self.loss] or not reading.averaged or options != wanted:
            return f"the wall is for torch's {FUNCTIONS[self.loss]} with {wanted}, and the loss is {reading.loss} with {options}"
        return None

    def _why(self, first: Head, second: Head, lower: float) -> str:
        signs = [f"{self.layer_orientation(head.weight):+d}" for head in (first, second)]
        return (
            f"The last layers of the ends have opposite orientations ({' and '.join(signs)}, the signs of det R W), so on every path "
            f"between them some combination of the outputs is the same for all inputs. On these targets the loss "
            f"({FUNCTIONS[self.loss]}) is at least {below(lower)} there."
        )

    def _same(self, first: Head, second: Head) -> str:
        signs = [f"{self.layer_orientation(head.weight):+d}" for head in (first, second)]
        return f"their last layers have the orientations {' and '.join(signs)}, which a path below {self.threshold:.6g} may join"


def decoder_obstruction(
    targets: Tensor,
    units: int,
    *,
    loss: DecoderLoss,
    output_bias: bool,
    directions: Tensor | None = None,
    delta: float = 1.0,
    layer: str | None = None,
) -> DecoderObstruction:
    """A loss below which networks with few last hidden units fall into two sides, by the absolute error or Huber's loss.

    Args:
        targets: Y `(n, q)`, in the precision in which the loss is computed.
        units: N, of the last hidden layer.
        loss: "l1" (torch's `l1_loss`) or "huber" (`huber_loss`), means over all n q entries.
        output_bias: whether the last layer has a bias.
        directions: `(N, q)` rows that span the combinations of outputs to watch, such as N rows of the identity; the principal
            directions of the targets by default. They are orthonormalised.
        delta: of Huber's loss.
        layer: name of the last layer in the model, for `between`; None: found.

    Raises:
        InputError: the wall is zero (more units than the rank of the targets, say), or data that cannot be used.
    """
    _check_options(loss, units, delta)
    y = real_matrix(targets, "targets", None)
    rows = _directions(y, units, output_bias, directions)
    wall = _absolute_wall(y, rows, output_bias) if loss == "l1" else _huber_wall(y, rows, output_bias, delta)
    if not wall > 0:
        raise InputError(
            f"no wall is known for {units} units and these directions: some combination of the targets {tuple(y.shape)} is constant, "
            "as far as float64 shows; fewer units, or other directions, may have one"
        )
    threshold = nextafter(wall / y.numel() * (1 - 1e-15), -inf)
    return DecoderObstruction(threshold, loss, rows, targets.detach(), output_bias, delta, layer)


def _check_options(loss: str, units: int, delta: float) -> None:
    if loss not in FUNCTIONS:
        raise InputError(f"loss must be one of {', '.join(FUNCTIONS)}, got {loss!r}; squared errors have bottleneck_obstruction")
    if isinstance(units, bool) or not isinstance(units, int) or units < 1:
        raise InputError(f"units must be a positive whole number, got {units!r}")
    if not 0 < delta < inf:
        raise InputError(f"delta must be positive and finite, got {delta}")


def _directions(y: Tensor, units: int, bias: bool, directions: Tensor | None) -> Tensor:
    """N nearly orthonormal rows."""
    if units > y.shape[1]:
        raise InputError(f"{units} units are more than the {y.shape[1]} outputs: every output is free, and no wall exists")
    if directions is None:
        return Spectrum.of(gram_of_residuals(y, _ones(y, bias))).vectors[:, :units].T.contiguous()
    check_matrix(directions, "directions", (units, y.shape[1]))
    rows = torch.linalg.qr(directions.detach().double().cpu().T).Q.T.contiguous()
    if not torch.linalg.svdvals(directions.double()).min() > 0:
        raise InputError("directions must be linearly independent rows")
    return rows


def _ones(y: Tensor, bias: bool) -> Tensor:
    return torch.ones(len(y), int(bias), dtype=torch.float64)


def _huber_wall(y: Tensor, rows: Tensor, bias: bool, delta: float) -> float:
    """A lower bound on the sum over samples of Huber's function, by the variance."""
    defect = orthonormal_defect(rows)
    # |b| <= |w| / smallest singular value of R, and w_k = b . column k.
    largest = torch.linalg.vector_norm(rows, dim=0).max().item() * (1 + defect) * WIDE
    centered = y - y.mean(0) if bias else y
    # The best d is between the least and the largest w.y, so a residual is at most their distance.
    reach = (torch.linalg.vector_norm(centered, dim=1).max().item() + gamma(1) * norm(y)) * (2 if bias else 1) * WIDE
    ratio = min(1.0, delta / (largest * reach)) if reach else 1.0
    share = (2 * ratio - ratio**2) / 2 * (1 - 1e-14)
    return share * least_over_rows(gram_of_residuals(y, _ones(y, bias)), rows)


def _absolute_wall(y: Tensor, rows: Tensor, bias: bool) -> float:
    """A lower bound on the sum over samples of |w.y - d| / max |w_k|: the least of one linear program for each output."""
    return max(0.0, min(_bound(y, rows, bias, k) for k in range(y.shape[1]) if rows[:, k].any()))


def _bound(y: Tensor, rows: Tensor, bias: bool, k: int) -> float:
    """A lower bound where w_k = 1 is the largest entry, from the multipliers of a linear program, every rounding taken off."""
    slopes, v = _multipliers(y, rows, bias, k)
    n, q = y.shape
    slopes = slopes.clamp(-1, 1)
    # w.v = b.(R v), and |b| <= |w| / smallest singular value of R <= sqrt(q) (1 + defect).
    v = v - rows.T @ torch.linalg.solve(rows @ rows.T, rows @ v)
    off = sqrt(q) * (1 + orthonormal_defect(rows)) * (norm(rows @ v) + gamma(q) * norm(rows) * norm(v))
    # The best d is a median of the w.y_i, which are at most |y_i| in the sum norm.
    far = y.abs().sum(1).max().item() * (abs(slopes.sum().item()) + gamma(n) * n) if bias else 0.0
    t = y.T @ slopes + v
    lost = 2 * sqrt(q) * gamma(n + q) * (norm(y) * norm(slopes) + norm(v))
    return 2 * max(0.0, t[k].item()) - t.abs().sum().item() - WIDE * (off + far + lost)


def _multipliers(y: Tensor, rows: Tensor, bias: bool, k: int) -> tuple[Tensor, Tensor]:
    """The multipliers s `(n,)` and v `(q,)` of the program's solution: b, d, n residuals, and an excess.

    The excess lets |w_j| be larger than 1 at a high price, so that there always is a solution, and a high one where w_k cannot
    be the largest entry.
    """
    from scipy import sparse
    from scipy.optimize import linprog

    (n, q), r, extra = y.shape, len(rows), int(bias)
    fit = np.hstack([(y @ rows.T).numpy(), -np.ones((n, extra))])
    w = np.hstack([rows.T.numpy(), np.zeros((q, extra))])
    residual, excess = sparse.eye(n), np.ones((q, 1))
    above = sparse.bmat([[fit, -residual, None], [-fit, -residual, None], [w, None, -excess], [-w, None, -excess]], format="csr")
    limits = np.concatenate([np.zeros(2 * n), np.ones(2 * q)])
    price = 1 + q * y.abs().sum().item()
    cost = np.concatenate([np.zeros(r + extra), np.ones(n), [price]])
    bounds = [(None, None)] * (r + extra) + [(0, None)] * (n + 1)
    pinned = np.concatenate([w[k], np.zeros(n + 1)])[None]
    found = linprog(cost, A_ub=above, b_ub=limits, A_eq=pinned, b_eq=[1.0], bounds=bounds, method="highs")
    if found.status:
        raise InputError(f"the linear program of output {k} could not be solved: {found.message}")
    (upper, lower), (high, low) = (-part.reshape(2, -1) for part in np.split(found.ineqlin.marginals, [2 * n]))
    slopes, t = torch.from_numpy(upper - lower), torch.from_numpy(low - high)
    t[k] += found.eqlin.marginals[0]
    return slopes, t - y.T @ slopes
