"""Theorem 2.4 of Freeman & Bruna (2017), written down: a path between networks of one hidden ReLU layer.

Each end first gives its outer weights their best values, then the best few of them; the units that this frees are overwritten
by a small network of its own, the oracle, which takes over and hands over to the other end. Every piece moves outer weights
alone (along which the squared error is convex) or units with outer weight zero (along which it is constant). So

    max over the path = max(L_A, L_B, e_A(m - l), e_B(m - l), e*(l)),

attained: e(k) is what the best k of an end's units reach, e*(l) what l units reach. The paper's proof leaves out that the two
ends free different units; moving the oracle from one's free units to the other's costs two pieces more.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.base.path import Path

Layer = tuple[Tensor, Tensor]
"""Rows W `(m, d)` and outer weights v `(m,)` of x -> v . relu(W x)."""

STEPS = 1500
RATE = 0.02


@dataclass(frozen=True, eq=False)
class HiddenLayerPath:
    """A path between two networks of one hidden layer.

    Attributes:
        corners: W `(m, d)` and v `(m,)` at every bead, float64.
        errors: the mean squared errors that bound it: "start", "end", "start sparse", "end sparse", "oracle".
        units: l, the oracle's.
    """

    corners: tuple[Layer, ...]
    errors: dict[str, float]
    units: int

    @property
    def path(self) -> Path:
        """The corners as points: W flattened, then v."""
        return Path(torch.stack([torch.cat([w.flatten(), v]) for w, v in self.corners]))

    @property
    def bound(self) -> float:
        """The largest loss of the path; one of its corners has it."""
        return max(self.errors.values())

    @property
    def epsilon(self) -> float:
        """How far the path rises above its ends."""
        return self.bound - max(self.errors["start"], self.errors["end"])


def hidden_layer_path(
    x: Tensor,
    y: Tensor,
    start: Layer,
    end: Layer,
    *,
    units: Sequence[int] | None = None,
    restarts: int = 3,
    seed: int = 0,
) -> HiddenLayerPath:
    """The path of theorem 2.4 between x -> v . relu(W x) of two ends, for the mean squared error.

    Args:
        x: inputs `(n, d)`; a column of ones gives biases.
        y: targets `(n,)`.
        start, end: W `(m, d)` and v `(m,)`.
        units: sizes l of the oracle to try, 0 < l < m; m/8, m/4 and m/2 by default. The lowest bound wins.
        restarts: trainings of each oracle, of which the best is taken.
        seed: of the oracles' initial weights.

    Raises:
        InputError: shapes that do not fit, one hidden unit, or a size of the oracle outside (0, m).

    Source: Freeman & Bruna 2017, theorem 2.4 with alpha = 0, and its proof.
    """
    x, y, first, second = _checked(x, y, start, end)
    width = len(first[1])
    sizes = sorted({max(1, width // 8), max(1, width // 4), width // 2}) if units is None else list(units)
    if not sizes or not all(0 < size < width for size in sizes):
        raise InputError(f"sizes of the oracle between 0 and m = {width} are needed, got {sizes}")
    generator = torch.Generator().manual_seed(seed)
    tried = [_written(x, y, first, second, size, oracle(x, y, size, restarts, generator)) for size in sizes]
    return min(tried, key=lambda found: found.bound)


def best_terms(x: Tensor, y: Tensor, rows: Tensor, terms: int) -> Tensor:
    """Outer weights `(m,)` of at most `terms` units, fitted by least squares on the better of two supports.

    The supports are those of orthogonal matching pursuit and of the Lasso path (scikit-learn).

    Args:
        x, y: `(n, d)` and `(n,)` float64.
        rows: W `(m, d)`.
        terms: how many outer weights may be nonzero.
    """
    hidden = torch.relu(x @ rows.T)
    if terms >= len(rows):
        return _least_squares(hidden, y, torch.arange(len(rows)))
    fits = [_least_squares(hidden, y, support) for support in _supports(hidden, y, terms)]
    return min(fits, key=lambda v: (hidden @ v - y).square().mean())


def oracle(x: Tensor, y: Tensor, units: int, restarts: int, generator: torch.Generator) -> Layer:
    """A small network trained on its own: the best of several runs of Adam, all at once, with outer weights refitted."""
    rows = torch.randn(restarts, units, x.shape[1], generator=generator, dtype=torch.float64) / x.shape[1] ** 0.5
    outer = torch.randn(restarts, units, generator=generator, dtype=torch.float64) / units**0.5
    parameters = [rows.requires_grad_(), outer.requires_grad_()]
    optimizer = torch.optim.Adam(parameters, lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        outputs = torch.einsum("rnk,rk->rn", torch.relu(torch.einsum("nd,rkd->rnk", x, rows)), outer)
        (outputs - y).square().mean(1).sum().backward()
        optimizer.step()
        schedule.step()
    found = [(w, best_terms(x, y, w, units)) for w in rows.detach()]
    return min(found, key=lambda layer: _error(x, y, layer))


def _checked(x: Tensor, y: Tensor, start: Layer, end: Layer) -> tuple[Tensor, Tensor, Layer, Layer]:
    """Everything in float64, if it fits."""
    shapes = [tuple(part.shape) for part in (x, y, *start, *end)]
    width = len(start[1])
    if shapes != [(len(y), x.shape[-1]), (len(y),), *[(width, x.shape[-1]), (width,)] * 2] or width < 2:
        raise InputError(
            f"x (n, d), y (n,) and two ends W (m, d), v (m,) with m >= 2 are needed, got {shapes}; several outputs are no part "
            "of the theorem"
        )
    x, y, *ends = (part.detach().double() for part in (x, y, *start, *end))
    return x, y, (ends[0], ends[1]), (ends[2], ends[3])


def _error(x: Tensor, y: Tensor, layer: Layer) -> float:
    return (torch.relu(x @ layer[0].T) @ layer[1] - y).square().mean().item()


def _least_squares(hidden: Tensor, y: Tensor, support: Tensor) -> Tensor:
    """The best outer weights on some units; zero elsewhere."""
    weights = torch.zeros(hidden.shape[1], dtype=torch.float64)
    weights[support] = torch.linalg.lstsq(hidden[:, support], y[:, None], driver="gelsd").solution[:, 0]
    return weights


def _supports(hidden: Tensor, y: Tensor, terms: int) -> list[Tensor]:
    """Which units orthogonal matching pursuit and the Lasso choose."""
    from sklearn.linear_model import lars_path, orthogonal_mp

    norms = hidden.norm(dim=0)
    columns: Any = (hidden / norms.clamp_min(torch.finfo(torch.float64).tiny)).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dependent columns end either search early: what was found until then is a support
        pursued = orthogonal_mp(columns, y.numpy(), n_nonzero_coefs=terms)
        _, _, weights = lars_path(columns, y.numpy(), method="lasso", max_iter=4 * terms)
    counts = (weights != 0).sum(0)
    chosen = weights[:, counts <= terms][:, -1]
    found = [torch.as_tensor(w).nonzero()[:, 0] for w in (pursued, chosen)]
    return [support for support in found if 0 < len(support) <= terms] or [norms.argsort(descending=True)[:terms]]


def _written(x: Tensor, y: Tensor, first: Layer, second: Layer, size: int, small: Layer) -> HiddenLayerPath:
    """The corners for one size of the oracle."""
    one, other = _fewer(x, y, first, size), _fewer(x, y, second, size)
    here = _free(one[-1], size)
    there = _matched(here, _free(other[-1], size))
    taken, given = _with_oracle(one[-1], here, small), _with_oracle(other[-1], there, small)
    # The oracle stands on the units that the first end frees and on those that the second frees, is read there, then here.
    rows = given[1][0].clone()
    rows[here] = small[0]
    shuffled = [(rows, taken[1][1]), (rows, given[1][1])]
    corners = [*one, *taken, *shuffled, *reversed(given), *reversed(other)]
    names = {"start": first, "end": second, "start sparse": one[-1], "end sparse": other[-1], "oracle": taken[1]}
    return HiddenLayerPath(tuple(corners), {name: _error(x, y, layer) for name, layer in names.items()}, size)


def _fewer(x: Tensor, y: Tensor, end: Layer, size: int) -> list[Layer]:
    """An end, with the best outer weights, and with the best m - l of them."""
    rows, width = end[0], len(end[1])
    return [end, (rows, best_terms(x, y, rows, width)), (rows, best_terms(x, y, rows, width - size))]


def _free(layer: Layer, size: int) -> Tensor:
    """Units that are not read."""
    return (layer[1] == 0).nonzero()[:size, 0]


def _matched(here: Tensor, there: Tensor) -> Tensor:
    """The second end's free units in an order in which those of both ends hold the same unit of the oracle."""
    common = torch.isin(here, there)
    matched = here.clone()
    matched[~common] = there[~torch.isin(there, here)]
    return matched


def _with_oracle(layer: Layer, free: Tensor, small: Layer) -> list[Layer]:
    """The oracle written into free units, and then read instead of the others."""
    rows, outer = layer[0].clone(), torch.zeros_like(layer[1])
    rows[free], outer[free] = small
    return [(rows, layer[1]), (rows, outer)]
