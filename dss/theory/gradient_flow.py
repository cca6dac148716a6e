"""Gradient flow on a wide network of one hidden ReLU layer, beside the linear law that theory gives it (Du et al. 2018).

f(x) = m^-1/2 sum_r a_r relu(w_r.x), a_r = +-1 fixed, w_r from a standard Gaussian, L = |u - y|^2 / 2. The theorem: for m large
enough |u(t) - y|^2 <= exp(-lambda_0 t) |u(0) - y|^2 with high probability, and no row moves further than of the order m^-1/2.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.theory.gram import gram_matrix, least_eigenvalue


@dataclass(frozen=True, eq=False)
class GradientFlow:
    """What was seen at places along the time, `(k,)` each, the first at time 0.

    Attributes:
        times: steps times their size.
        errors: |u - y|^2.
        eigenvalues: the least of H(W).
        movements: the largest |w_r - w_r(0)|.
        flips: share of the signs of w_r.x_i that differ from those at the start.
        pace: lambda_0.
        step: size of a step.
    """

    times: Tensor
    errors: Tensor
    eigenvalues: Tensor
    movements: Tensor
    flips: Tensor
    pace: float
    step: float

    @property
    def law(self) -> Tensor:
        """The theorem's bound on `errors`: exp(-lambda_0 t) times the first."""
        return (-self.pace * self.times).exp() * self.errors[0]

    @property
    def discrete_law(self) -> Tensor:
        """The bound for gradient descent: (1 - step lambda_0 / 2)^k times the first."""
        return (1 - self.step * self.pace / 2) ** (self.times / self.step).round() * self.errors[0]


def gradient_flow(
    x: Tensor, y: Tensor, width: int, *, step: float = 0.2, steps: int = 1000, looks: int = 50, seed: int = 0
) -> GradientFlow:
    """Descend by small steps from a random start and look on.

    Args:
        x: inputs `(n, d)` of length 1.
        y: targets `(n,)`.
        width: m.
        step: of the time; the flow is that of small ones, below 2 over the largest eigenvalue of H.
        steps: how many.
        looks: places at which everything is recorded, evenly spread; the first step and the last are among them.
        seed: of the rows and the outer signs.

    Raises:
        InputError: shapes that do not fit, inputs that are no unit vectors, two of the same direction, or numbers below 1.

    Source: Golikov 2019, "A ReLU-net (Du et al., 2018a)".
    """
    x, y = _checked(x, y, width, steps, looks)
    pace = least_eigenvalue(x)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(width, x.shape[1], generator=generator, dtype=torch.float64)
    signs = torch.randint(2, (width,), generator=generator).double() * 2 - 1
    start, scale = rows.clone(), width**-0.5
    wanted = set(torch.linspace(0, steps, looks + 1).round().long().tolist())
    seen = []
    for k in range(steps + 1):
        products = x @ rows.T
        active = products > 0
        residual = scale * (torch.relu(products) @ signs) - y
        if k in wanted:
            seen.append([k * step, residual.square().sum().item(), *_state(x, rows, start)])
        gradient = (active * residual[:, None]).T @ x
        rows = rows - step * scale * signs[:, None] * gradient
    return GradientFlow(*torch.tensor(seen, dtype=torch.float64).T, pace=pace, step=step)


def _state(x: Tensor, rows: Tensor, start: Tensor) -> list[float]:
    """Least eigenvalue of H, largest movement of a row, share of signs that changed."""
    flips = ((x @ rows.T >= 0) != (x @ start.T >= 0)).double().mean()
    return [
        torch.linalg.eigvalsh(gram_matrix(x, rows))[0].item(),
        (rows - start).norm(dim=1).max().item(),
        flips.item(),
    ]


def _checked(x: Tensor, y: Tensor, width: int, steps: int, looks: int) -> tuple[Tensor, Tensor]:
    if x.ndim != 2 or y.shape != x.shape[:1] or min(width, steps, looks) < 1:
        raise InputError(
            f"inputs (n, d), targets (n,) and at least one unit, step and look are needed, got {tuple(x.shape)}, {tuple(y.shape)}, "
            f"width={width}, steps={steps}, looks={looks}"
        )
    x, y = x.double(), y.double()
    if ((x.norm(dim=1) - 1).abs() > 1e-6).any():
        raise InputError("inputs of length 1 are needed, as the theorem has them: divide each by its norm")
    return x / x.norm(dim=1, keepdim=True), y
