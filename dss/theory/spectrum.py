"""Eigenvalues of Gram matrices as theorems: what floating-point arithmetic computed, and how far off it can be.

A matrix C is known as a stored matrix and a bound on the error's Frobenius norm. LAPACK gives Q and L with C close to Q L Q';
how close is computed afterwards, so nothing is assumed of LAPACK:

    C = Q L Q' + S,   Q'Q = I + G.

The eigenvalues of Q L Q' are those of L times factors in [1 - |G|, 1 + |G|] (Ostrowski; Horn & Johnson, Matrix Analysis, 4.5.9),
and S moves all of them together by at most |S|_F in the Euclidean norm (Hoffman & Wielandt; the same, 6.3.8).
"""

from dataclasses import dataclass
from math import fsum, inf, nextafter, sqrt

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.enclosure.rounding import TINY, WIDE, gamma


@dataclass(frozen=True, eq=False)
class Enclosed:
    """A symmetric matrix `(q, q)`, known up to an `error` in the Frobenius norm."""

    matrix: Tensor
    error: float

    def __sub__(self, other: "Enclosed") -> "Enclosed":
        difference = self.matrix - other.matrix
        return Enclosed(difference, WIDE * (self.error + other.error + gamma(1) * norm(difference)))

    @property
    def least_trace(self) -> float:
        """A lower bound on the trace."""
        diagonal = self.matrix.diagonal().tolist()
        return nextafter(fsum(diagonal), -inf) - WIDE * sqrt(len(diagonal)) * self.error


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues of an enclosed matrix.

    Attributes:
        values: `(q,)` in descending order; the true ones differ by at most `radius` in the Euclidean norm.
        vectors: `(q, q)`, column i belongs to value i, nearly orthonormal; nothing rests on them.
        radius: of the error.
    """

    values: Tensor
    vectors: Tensor
    radius: float

    @classmethod
    def of(cls, enclosed: Enclosed) -> "Spectrum":
        """Eigenvalues of a matrix, and what they can be off by.

        Raises:
            InputError: the matrix is not finite.
        """
        matrix = enclosed.matrix
        if not matrix.isfinite().all():
            raise InputError("the targets are too large: sums of their squares are not finite in float64; scale them down")
        values, vectors = (part.flip(-1) for part in torch.linalg.eigh(matrix))
        size, n = norm(vectors) ** 2, len(values)
        most = values.abs().max().item()
        defect = norm(vectors.T @ vectors - torch.eye(n, dtype=matrix.dtype)) + gamma(n) * (size + n)
        rest = norm(matrix - (vectors * values) @ vectors.T) + gamma(n + 2) * (size * most + norm(matrix))
        if not defect < 0.5:
            raise InputError("the eigenvectors of the targets could not be computed to any accuracy")
        return cls(values, vectors, WIDE * (defect * norm(values) + rest + enclosed.error) + TINY)

    def least(self) -> float:
        """A lower bound on the lowest eigenvalue."""
        return nextafter(self.values[-1].item() - self.radius, -inf)

    def sums_from(self, first: int) -> tuple[float, float]:
        """Bounds on the sum of all eigenvalues but the `first` largest, of a matrix that has no negative ones."""
        tail = self.values[first:].tolist()
        total, slack = fsum(tail), WIDE * sqrt(len(tail)) * self.radius
        return max(0.0, nextafter(total - slack, -inf)), nextafter(total + slack, inf)


def gram_of_residuals(targets: Tensor, regressors: Tensor) -> Enclosed:
    """The Gram matrix Y'(I - P)Y of targets Y `(n, q)`, P the projection on the columns of `regressors` `(n, m)`.

    With any coefficients D, however computed, and E = Y - F D, it is E'E - E'P E, and the second term is at most
    |F'E|^2 / lowest eigenvalue of F'F: the square of a number that rounding alone keeps from zero.

    Raises:
        InputError: the regressors are linearly dependent, or nearly so.
    """
    n, m = regressors.shape
    if m == 0:
        return _gram(targets, 0.0)
    coefficients = torch.linalg.lstsq(regressors, targets, driver="gelsd").solution
    residuals = targets - regressors @ coefficients
    lost = gamma(m + 1) * (norm(targets) + norm(regressors) * norm(coefficients))
    gram, least = _gram(residuals, lost), Spectrum.of(_gram(regressors, 0.0)).least()
    if not least > 0:
        raise InputError(
            "the columns of ones, of the regressors and of the span must be linearly independent, and are not, as far as float64 "
            "shows; leave out those that repeat others"
        )
    correlation = norm(regressors.T @ residuals) + norm(regressors) * (gamma(n) * norm(residuals) + lost)
    return Enclosed(gram.matrix, WIDE * (gram.error + correlation**2 / least))


def least_over_rows(enclosed: Enclosed, rows: Tensor) -> float:
    """A lower bound, 0 at least, on w'Cw / w'w over all w in the span of nearly orthonormal rows `(r, q)`, C >= 0.

    For w = R'b it is b'(R C R')b / b'(R R')b.

    Raises:
        InputError: the rows are far from orthonormal.
    """
    q, matrix, size = rows.shape[1], enclosed.matrix, norm(rows) ** 2
    product = rows @ matrix @ rows.T
    error = size * (gamma(2 * q) * norm(matrix) + enclosed.error)
    least = Spectrum.of(Enclosed((product + product.T) / 2, WIDE * (error + gamma(1) * norm(product)))).least()
    return max(0.0, least / (1 + orthonormal_defect(rows)) * (1 - 1e-15))


def orthonormal_defect(rows: Tensor) -> float:
    """A bound on |R R' - I| in the spectral norm, for rows R `(r, q)`.

    Raises:
        InputError: it is not small.
    """
    r, q = rows.shape
    defect = norm(rows @ rows.T - torch.eye(r, dtype=rows.dtype)) + gamma(q) * (norm(rows) ** 2 + r)
    if not defect < 0.5:
        raise InputError(f"orthonormal rows are needed, got rows R with |R R' - I| = {defect:.3g}")
    return WIDE * defect


def norm(values: Tensor) -> float:
    """The Frobenius norm, rounded up."""
    return (1 + gamma(values.numel())) * torch.linalg.vector_norm(values).item()


def _gram(columns: Tensor, lost: float) -> Enclosed:
    """E'E for a matrix `(n, q)` that is known up to `lost` in the Frobenius norm."""
    gram, size = columns.T @ columns, norm(columns)
    error = gamma(len(columns) + 1) * size**2 + lost * (2 * size + lost) + TINY
    return Enclosed((gram + gram.T) / 2, WIDE * error)
