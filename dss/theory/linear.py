"""Paths between linear networks that never rise above their ends, and the exact barrier where there is none.

Any two networks W_K ... W_1 whose hidden widths all lie above r = min(in, out) are joined by a polygon on which the product is
constant but for one piece, on which it moves straight from one product to the other. A loss convex in the product is then at
most the larger end's (Freeman & Bruna 2017, proposition 2.2; the widths must be *strictly* above r). No rotation is needed: a
pair of layers is moved with pseudo-inverses, one matrix at a time.

With a *square bottleneck*, a hidden width of r, the sign of the determinant of the layers between it and the narrow side is
invariant while the product has rank r. Networks of equal signs are joined by turning the bottleneck in small steps, on which
the product all but stays (`dss.theory.turning`). Networks of different sign meet a product of lower rank on every path; the best of
those is known in closed form (reduced-rank regression), and a path through it attains it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.base.path import Path
from dss.theory.turning import turned

Matrices = list[Tensor]

# A random stopover is drawn so often, and the one that conditions the moves best is taken.
DRAWS = 20


@dataclass(frozen=True, eq=False)
class LinearPath:
    """A polygon between two linear networks.

    Attributes:
        corners: W_1, ..., W_K at every bead, float64.
        bound: the largest mean squared error on the path, if there were data; None without.
    """

    corners: tuple[tuple[Tensor, ...], ...]
    bound: float | None = None

    @property
    def path(self) -> Path:
        """The corners as points: W_1, ..., W_K flattened, one after the other."""
        return Path(torch.stack([torch.cat([w.flatten() for w in corner]) for corner in self.corners]))


def linear_path(
    start: Sequence[Tensor], end: Sequence[Tensor], *, data: tuple[Tensor, Tensor] | None = None, arcs: int = 32
) -> LinearPath:
    """A polygon between two deep linear networks on which no convex loss of the product exceeds the larger end's.

    Args:
        start, end: W_1, ..., W_K, first layer first, W_k of shape `(n_k, n_{k-1})`; the ends are kept as they are.
        data: x `(n, in)` and y `(n, out)`, for the bound; needed where a square bottleneck has different signs at the ends: the
            path then goes through the best product of lower rank.
        arcs: pieces of each of the two curves that turn a square bottleneck whose signs are equal. On those the loss may
            exceed the larger end's, by less the more there are: about a fourth power of their size between minima.

    Raises:
        InputError: shapes that do not fit, a hidden width below min(in, out), different signs of one equal to it without data,
            or no arcs.

    Source: Freeman & Bruna 2017, proposition 2.2; the polygon is our own.
    """
    first, second = checked(start, end)
    flip = first[0].shape[1] > first[-1].shape[0]
    if flip:
        first, second = _transposed(first), _transposed(second)
    rank, hidden = first[0].shape[1], [w.shape[0] for w in first[:-1]]
    if arcs < 1:
        raise InputError(f"at least one arc is needed, got {arcs}")
    if all(a == b != 0 for a, b in zip(_signs(first), _signs(second), strict=True)):  # of square bottlenecks, if there are any
        corners = _join(first, second, arcs)
    elif data is not None:
        x, y = (part.double() for part in data)
        corners = _through(first, second, _best_singular(x, y).T if flip else _best_singular(x, y))
    else:
        raise InputError(
            f"hidden widths above min(in, out) = {rank} are needed, got {hidden}; past a square bottleneck of different signs the "
            "path depends on data=(x, y)"
        )
    corners = [_transposed(corner) for corner in corners] if flip else corners
    return LinearPath(tuple(tuple(corner) for corner in distinct(corners)), _bound(corners, data))


def linear_barrier(x: Tensor, y: Tensor, start: Sequence[Tensor], end: Sequence[Tensor]) -> float:
    """The exact barrier of the mean squared error between two linear networks: the least largest loss over all paths.

    Args:
        x: inputs `(n, in)`.
        y: targets `(n, out)`.
        start, end: as for `linear_path`.

    Returns:
        The larger end's loss; where a square bottleneck has different signs at the two ends, at least the least loss of a
        product of lower rank, which every path then meets.

    Raises:
        InputError: shapes that do not fit, or a hidden width below min(in, out).
    """
    first, second = checked(start, end)
    x, y = x.double(), y.double()
    ends = max(error(product(first), x, y), error(product(second), x, y))
    if any(a != b for a, b in zip(_signs(first), _signs(second), strict=True)):
        return max(ends, error(_best_singular(x, y), x, y))
    return ends


def product(matrices: Sequence[Tensor]) -> Tensor:
    """W_K ... W_1 of matrices given first layer first."""
    result = matrices[0]
    for matrix in matrices[1:]:
        result = matrix @ result
    return result


def checked(start: Sequence[Tensor], end: Sequence[Tensor]) -> tuple[Matrices, Matrices]:
    """Both networks in float64, if they are of one architecture without a bottleneck below min(in, out)."""
    shapes = [tuple(w.shape) for w in start]
    chained = all(len(shape) == 2 for shape in shapes) and all(a[0] == b[1] for a, b in pairwise(shapes))
    if not shapes or not chained or shapes != [tuple(w.shape) for w in end]:
        raise InputError(
            f"two networks W_1, ..., W_K of the same shapes (n_k, n_{{k-1}}) are needed, got {shapes} and "
            f"{[tuple(w.shape) for w in end]}"
        )
    rank = min(shapes[0][1], shapes[-1][0])
    if any(shape[0] < rank for shape in shapes):
        raise InputError(f"hidden widths of at least min(in, out) = {rank} are needed, got {[s[0] for s in shapes[:-1]]}")
    return [w.detach().double() for w in start], [w.detach().double() for w in end]


def _transposed(matrices: Sequence[Tensor]) -> Matrices:
    """The network of the transposed product."""
    return [w.T for w in reversed(matrices)]


def distinct(corners: list[Matrices]) -> list[Matrices]:
    """Corners without repetitions."""
    same = [all(torch.equal(a, b) for a, b in zip(one, other)) for one, other in pairwise(corners)]
    return [corners[0], *(corner for corner, repeated in zip(corners[1:], same) if not repeated)]


def _bound(corners: list[Matrices], data: tuple[Tensor, Tensor] | None) -> float | None:
    """The product is constant, moves straight, or goes straight to where it is in the middle of a piece and back."""
    if data is None:
        return None
    x, y = (part.double() for part in data)
    middles = ([(a + b) / 2 for a, b in zip(one, other)] for one, other in pairwise(corners))
    return max(error(product(point), x, y) for point in (*corners, *middles))


def error(matrix: Tensor, x: Tensor, y: Tensor) -> float:
    return (x @ matrix.T - y).square().mean().item()


def _best_singular(x: Tensor, y: Tensor) -> Tensor:
    """The product of rank below min(in, out) with the least squared error (reduced-rank regression, Izenman 1975)."""
    full = torch.linalg.lstsq(x, y, driver="gelsd").solution.T
    rank = min(full.shape) - 1
    _, _, directions = torch.linalg.svd(x @ full.T, full_matrices=False)
    return directions[:rank].T @ directions[:rank] @ full


def _signs(matrices: Matrices) -> list[float]:
    """The sign of the determinant that each square bottleneck keeps."""
    if matrices[0].shape[1] > matrices[-1].shape[0]:
        matrices = _transposed(matrices)
    rank, partial, signs = matrices[0].shape[1], None, []
    for matrix in matrices[:-1]:
        partial = matrix if partial is None else matrix @ partial
        if len(partial) == rank:
            signs.append(torch.linalg.slogdet(partial).sign.item())
    return signs


def _join(first: Matrices, second: Matrices, arcs: int) -> list[Matrices]:
    """Both to the form W_K = [P 0], all others [I; 0], between which the last matrix moves alone; square ones keep their sign."""
    return [*_descend(first, arcs), *reversed(_descend(second, arcs))]


def _descend(matrices: Matrices, arcs: int = 1) -> list[Matrices]:
    """Corners from a network to its canonical form, at constant product at all of them."""
    corners, rank = [matrices], matrices[0].shape[1]
    for k in range(len(matrices) - 1):
        matrices = corners[-1]
        square = len(matrices[k]) == rank
        pair = matrices[k + 1], matrices[k][:, :rank]
        for above, below in turned(*pair, arcs) if square else _pair(*pair):
            corner = list(corners[-1])
            corner[k] = torch.cat([below, matrices[k][:, rank:]], 1)
            corner[k + 1] = above
            corners.append(corner)
    return corners


def _pair(above: Tensor, below: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Corners of a pair of matrices on the way to ([P 0], [I; 0]), P = above @ below, one matrix moved at a time."""
    whole, (width, rank) = above @ below, below.shape
    u, s, v = torch.linalg.svd(below, full_matrices=True)
    known = int((s > s.max() * max(below.shape) * torch.finfo(torch.float64).eps).sum())
    # Nothing but the range of `below` is read, so what is missing to full rank may be added to it.
    above = above @ u[:, :known] @ u[:, :known].T
    corners = [(above, below)]
    size = s[:known].mean().item() if known else 1.0
    below = below + size * u[:, known:rank] @ v[known:]
    corners.append((above, below))
    goal = torch.eye(width, rank, dtype=torch.float64)
    for target in (_stopover(below, goal), goal):
        corners += _moved(whole, *corners[-1], target)
    final = torch.cat([whole, torch.zeros(len(whole), width - rank, dtype=torch.float64)], 1)
    return [*corners, (final, corners[-1][1])]


def _moved(whole: Tensor, above: Tensor, below: Tensor, target: Tensor) -> list[tuple[Tensor, Tensor]]:
    """`below` brought to `target` a few columns at a time, `above` first made blind to each change."""
    corners = []
    for columns in torch.arange(below.shape[1]).split(below.shape[0] - below.shape[1]):
        above = whole @ _left_inverse(below, target, columns)
        corners.append((above, below))
        below = below.index_copy(1, columns, target[:, columns])
        corners.append((above, below))
    return corners


def _left_inverse(below: Tensor, target: Tensor, columns: Tensor) -> Tensor:
    """L with L below = I and L (target - below) = 0 in some columns."""
    change = (target - below)[:, columns]
    return torch.linalg.pinv(torch.cat([below, change], 1))[: below.shape[1]]


def _stopover(below: Tensor, goal: Tensor) -> Tensor:
    """Orthonormal columns of the size of `below`, in general position to it and to the goal."""
    generator = torch.Generator().manual_seed(0)
    size = below.norm() / below.shape[1] ** 0.5
    draws = [size * torch.linalg.qr(torch.randn(below.shape, generator=generator, dtype=torch.float64)).Q for _ in range(DRAWS)]
    return min(draws, key=lambda draw: max(_condition(below, draw), _condition(draw, goal)))


def _condition(below: Tensor, target: Tensor) -> float:
    """The worst condition of the matrices that moving a few columns at a time inverts."""
    worst = 0.0
    for columns in torch.arange(below.shape[1]).split(below.shape[0] - below.shape[1]):
        worst = max(worst, torch.linalg.cond(torch.cat([below, (target - below)[:, columns]], 1)).item())
        below = below.index_copy(1, columns, target[:, columns])
    return worst


def _through(first: Matrices, second: Matrices, singular: Tensor) -> list[Matrices]:
    """With a square bottleneck, by way of a product of lower rank.

    The last matrix moves until the product is singular; then the first forgets the null direction of the product, which
    leaves more hidden units than there are directions everywhere, and pairs can be moved as in wide networks.
    """
    null = torch.linalg.svd(singular, full_matrices=True).Vh[-1]
    kept = torch.linalg.svd(null[None], full_matrices=True).Vh[1:].T
    sides = [_forgotten(matrices, singular, null, kept) for matrices in (first, second)]
    return [*sides[0], *reversed(sides[1])]


def _forgotten(matrices: Matrices, singular: Tensor, null: Tensor, kept: Tensor) -> list[Matrices]:
    """Corners from a network to the canonical form of the singular product."""
    *below, above = matrices
    lower = product(below)
    if torch.linalg.matrix_rank(lower) < lower.shape[1]:
        raise InputError("the layers below the last have lost a direction: such a network lies on the wall itself; perturb it")
    above = singular @ torch.linalg.pinv(lower)
    corners = [matrices, [*below, above], [below[0] - torch.outer(below[0] @ null, null), *below[1:], above]]
    if kept.shape[1] == 0:  # the first matrix is zero now: whatever is behind it may go
        return [*corners, [torch.zeros_like(w) for w in matrices]]
    reduced = [below[0] @ kept, *below[1:], above]
    return [*corners, *([corner[0] @ kept.T, *corner[1:]] for corner in _descend(reduced))]
