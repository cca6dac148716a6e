"""The Gram matrix that drives a wide network of one hidden ReLU layer, and its limit.

For f(x) = m^-1/2 sum_r a_r relu(w_r.x) with a_r = +-1, gradient flow on W alone moves the predictions u by
du/dt = -H(W) (u - y), H_ij(W) = x_i.x_j mean_r [w_r.x_i >= 0, w_r.x_j >= 0]. Over Gaussian w_r its mean is
H_ij = x_i.x_j (pi - angle(x_i, x_j)) / (2 pi), whose least eigenvalue lambda_0 sets the pace (Du et al. 2018).
"""

import math

import torch
from torch import Tensor

from dss.base.errors import InputError


def gram_matrix(x: Tensor, rows: Tensor) -> Tensor:
    """H(W), `(n, n)` float64.

    Args:
        x: inputs `(n, d)`.
        rows: W `(m, d)`.

    Raises:
        InputError: shapes that do not fit.

    Source: Golikov 2019 (after Du et al. 2018), "Some assumptions and definitions".
    """
    if x.ndim != 2 or rows.ndim != 2 or x.shape[1] != rows.shape[1] or not len(rows):
        raise InputError(f"inputs (n, d) and rows (m, d) are needed, got {tuple(x.shape)} and {tuple(rows.shape)}")
    x, active = x.double(), (x.double() @ rows.double().T >= 0).double()
    return (x @ x.T) * (active @ active.T) / len(rows)


def limit_gram_matrix(x: Tensor) -> Tensor:
    """H_inf, the mean of H(W) over rows from a standard Gaussian, in closed form: `(n, n)` float64.

    Args:
        x: inputs `(n, d)`, none of them zero.

    Raises:
        InputError: no such inputs.

    Source: Golikov 2019 (after Du et al. 2018); the arc-cosine kernel of order zero (Cho & Saul 2009).
    """
    if x.ndim != 2 or not len(x):
        raise InputError(f"inputs (n, d) are needed, got {tuple(x.shape)}")
    x = x.double()
    norms = x.norm(dim=1, keepdim=True)
    if not (norms > 0).all() or not norms.isfinite().all():
        raise InputError("inputs need finite lengths above zero: the sign of w.x says nothing of an input that is zero")
    units = x / norms
    # Where an angle is near 0 or pi its cosine has lost half of the digits; lengths of sums and differences have not.
    angles = 2 * torch.atan2(torch.cdist(units, units, compute_mode="donot_use_mm_for_euclid_dist"),
                             torch.cdist(units, -units, compute_mode="donot_use_mm_for_euclid_dist"))  # fmt: skip
    return (x @ x.T) * (math.pi - angles) / (2 * math.pi)


def least_eigenvalue(x: Tensor) -> float:
    """lambda_0, the least eigenvalue of H_inf.

    Inputs of the same direction make it zero. Opposite ones do not (their units are never active together), unless the lines
    of several such pairs are linearly dependent.

    Args:
        x: inputs `(n, d)`.

    Raises:
        InputError: it is zero up to rounding; the message names the two inputs that are closest in direction.
    """
    gram = limit_gram_matrix(x)
    values = torch.linalg.eigvalsh(gram)
    if values[0] <= len(x) * torch.finfo(torch.float64).eps * values[-1] * 4:
        raise InputError(f"lambda_0 is zero up to rounding ({values[0].item():.1e}){_closest(x)}; leave one of them out")
    return values[0].item()


def _closest(x: Tensor) -> str:
    """The two inputs closest in direction, in words."""
    units = x.double() / x.double().norm(dim=1, keepdim=True)
    cosines = (units @ units.T).fill_diagonal_(-2)
    i, j = divmod(int(cosines.argmax()), len(x))
    return f": inputs {min(i, j)} and {max(i, j)} are closest, with a cosine of {cosines.max().item():.12g}"
