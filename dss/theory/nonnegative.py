"""A higher wall for non-negative features without output bias, as many as there are samples, by the squared error.

H `(N, N)`, the features of N samples, is square, so the sign of det H is an orientation. Where det H = 0 there is m, not zero,
with m'H = 0, and the error is at least m'G m / m'm, G = Y Y'. Features that are not negative leave less to m: if all its entries
had one sign, H would be 0. So the wall is the least of m'G m / m'm over vectors m that are not of one sign.

If the eigenvector p of the lowest eigenvalue of G has entries of one sign only, that least is attained where an entry of m is zero:
from a mixed m go along p, in the direction in which m + s p grows. The quotient only falls, and an entry passes through zero
on the way. So the wall is the least, over i, of the lowest eigenvalues of G without row and column i. If p has both
signs, p itself is the least, and the wall is the lowest eigenvalue, as for features of any sign.

For targets at the vertices of a regular simplex (sum zero, length one) it is 1/(N - 1), or 1/(N (N - 1)^2) as a mean over the
entries: 1/12 for three samples, whatever the inputs, the depth and the non-negative activation.
"""

from dataclasses import dataclass, field
from fractions import Fraction

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.theory.bottleneck import check_matrix, real_matrix
from dss.theory.exact import determinant_sign, integers, rounded_down
from dss.theory.spectrum import Enclosed, Spectrum, gram_of_residuals


@dataclass(frozen=True, eq=False)
class NonnegativeObstruction:
    """Features of different orientation are joined by no path of non-negative features below `threshold`.

    Attributes:
        threshold: the wall, as a mean over the n q entries, rounded down.
        targets: `(n, q)`, n samples and as many last hidden units.
    """

    threshold: float
    targets: Tensor = field(repr=False)

    def orientation(self, features: Tensor) -> int:
        """The sign (-1, 0 or 1) of the determinant of the features `(n, n)` of the samples, exactly for the given numbers.

        Raises:
            InputError: features of another shape, not finite, or negative.
        """
        check_matrix(features, "features", (len(self.targets), len(self.targets)))
        if (features < 0).any():
            raise InputError("features must not be negative, as those of a ReLU or a sigmoid are")
        return determinant_sign(integers(features))


def nonnegative_obstruction(targets: Tensor) -> NonnegativeObstruction:
    """The wall of networks whose last hidden features are not negative, one for each sample, without output bias.

    Args:
        targets: Y `(n, q)`; the last hidden layer has n units.

    Raises:
        InputError: targets that cannot be used, fewer than two, or a wall of zero.
    """
    y = real_matrix(targets, "targets", None)
    if len(y) < 2:
        raise InputError("two samples at least are needed: features of one sample have no two sides")
    gram = gram_of_residuals(y.T.contiguous(), torch.empty(y.shape[1], 0, dtype=torch.float64))
    if _one_signed(Spectrum.of(gram)):
        wall = min(Spectrum.of(_without(gram, i)).least() for i in range(len(y)))
    else:
        wall = Spectrum.of(gram).least()
    if not wall > 0:
        raise InputError("the wall is zero, as far as float64 shows: features on both sides can have every loss")
    return NonnegativeObstruction(rounded_down(Fraction(wall) / y.numel()), targets.detach())


def _one_signed(spectrum: Spectrum) -> bool:
    """Whether the lowest eigenvector surely has entries of one sign, none zero.

    The sine of the angle between it and the computed one is at most the error over the gap (Davis & Kahan 1970), so an entry is
    off by at most sqrt(2) times that.
    """
    lowest, vector = spectrum.values[-1], spectrum.vectors[:, -1]
    gap = (spectrum.values[-2] - lowest).item() - 2 * spectrum.radius
    if not gap > 0:
        return False
    # The residual of the computed pair is itself within the radius, and its length within 1e-10 of one.
    off = 2 * spectrum.radius / gap * 2**0.5 + 1e-10
    return bool((vector > off).all() or (vector < -off).all())


def _without(gram: Enclosed, i: int) -> Enclosed:
    kept = [j for j in range(len(gram.matrix)) if j != i]
    return Enclosed(gram.matrix[kept][:, kept], gram.error)
