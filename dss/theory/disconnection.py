"""A loss below which no path joins a small ReLU network to a copy of itself with two units swapped.

Freeman & Bruna 2017, appendix E, train a bias-free 2-3-2 ReLU network on three points and call the proof of its
disconnection intractable. The proof is this. `H = relu(x W')` is 3 x 3, and a swap of two hidden units flips the sign of
det H, so a path from one to the other has a point where det H = 0. There the network's outputs `H V` lie in the span of
two columns of H, and the loss is at least the squared distance of y to that span: `|m' y|^2`, m its unit normal.

The columns are `h(w) = relu(x w)`. As w turns once around, h runs along straight edges of a cone in the positive
octant, with corners where some `x_i . w = 0`. So the normals of all such spans fill finitely many polyhedral cones, and
the least `|m' y|^2` over each is bounded by subdividing it. Everything is integer arithmetic on the stored numbers.
"""

import heapq
from collections.abc import Iterator
from fractions import Fraction
from functools import cmp_to_key
from itertools import combinations, count, pairwise, product
from math import gcd, inf, lcm, nextafter

import torch
from torch import Tensor

from dss.base.errors import InputError

Vector = tuple[int, ...]
Edge = tuple[Vector, Vector]
Triangle = tuple[Vector, Vector, Vector]


def disconnection_threshold(x: Tensor, y: Tensor, *, tolerance: float = 1e-6) -> float:
    """A certified obstruction for the bias-free 2-3-2 ReLU network `x -> relu(x W') V`.

    No continuous path joins parameters to their copy with two hidden units swapped (or any two parameters whose
    `hidden_orientation` differs in sign) along which the mean squared error over the six entries of y stays below the
    number returned. It is a rigorous lower bound on the exact obstruction, and at most `tolerance` of it lower; where
    the obstruction is below `tolerance` of the mean square of y, 0 is returned.

    Args:
        x: three inputs, `(3, 2)`.
        y: three targets, `(3, 2)`.
        tolerance: relative gap to the exact obstruction at which subdivision stops, in (0, 1).

    Raises:
        InputError: x or y is not a finite real `(3, 2)`, or the tolerance is not in (0, 1).

    Source: Freeman & Bruna 2017, section 2.3.1 and appendix E; the bound is ours.
    """
    if not 0 < tolerance < 1:
        raise InputError(f"tolerance must lie in (0, 1), got {tolerance}; 1e-6 is the default")
    points, _ = _integers(x, "x", (3, 2))
    targets, scale = _integers(y, "y", (3, 2))
    gram = [tuple(_dot(a, b) for b in targets) for a in targets]
    total = Fraction(sum(gram[i][i] for i in range(3)))
    chains = _chains(points)
    rays = [ray for chain in chains for ray in chain]
    if len(rays) < 2:
        best = total - max((Fraction(_form(gram, ray, ray), _dot(ray, ray)) for ray in rays), default=Fraction(0))
    else:
        triangles = [triangle for cone in _cones(chains) for triangle in _triangles(cone)]
        best = _least(gram, triangles, Fraction(tolerance), total)
    return _rounded_down(best / (6 * scale**2))


def hidden_orientation(x: Tensor, w: Tensor) -> int:
    """The sign (-1, 0 or 1) of det relu(x w'), exactly: which side of the obstruction a network is on.

    Args:
        x: three inputs, `(3, 2)`.
        w: the first layer's weights, `(3, 2)`, one hidden unit a row.

    Raises:
        InputError: x or w is not a finite real `(3, 2)`.
    """
    points, units = _integers(x, "x", (3, 2))[0], _integers(w, "w", (3, 2))[0]
    first, second, third = (_column(points, unit) for unit in units)
    determinant = _dot(first, _cross(second, third))
    return (determinant > 0) - (determinant < 0)


def _integers(values: Tensor, name: str, shape: tuple[int, int]) -> tuple[list[Vector], int]:
    """Rows as integers, and the common factor by which they were multiplied: floats are dyadic fractions."""
    values = torch.as_tensor(values).detach()
    if tuple(values.shape) != shape or values.is_complex() or not values.isfinite().all():
        raise InputError(f"{name} must be finite real numbers of shape {shape}, got shape {tuple(values.shape)} {values.dtype}")
    rows = [[Fraction(v) for v in row] for row in values.tolist()]
    scale = lcm(*(v.denominator for row in rows for v in row))
    return [tuple(int(v * scale) for v in row) for row in rows], scale


def _chains(points: list[Vector]) -> list[list[Vector]]:
    """The corners of the cone of columns, in order: one closed chain (its first corner repeated), or open ones.

    A chain breaks where the column is zero. Neighbours in a chain are not parallel.
    """
    kinks = sorted({_primitive(k) for a, b in points if a or b for k in ((-b, a), (b, -a))}, key=cmp_to_key(_by_angle))
    corners: list[Vector] = []
    for kink, following in zip(kinks, kinks[1:] + kinks[:1], strict=True):
        corners.append(_column(points, kink))
        if not (any(corners[-1]) and any(_column(points, following))):
            # The edge has one ray only (a column that vanishes at an end grows along a fixed direction).
            middle = (kink[0] + following[0], kink[1] + following[1])
            corners.append(_column(points, middle if any(middle) else (-kink[1], kink[0])))
    return _split(corners)


def _split(corners: list[Vector]) -> list[list[Vector]]:
    """A cyclic list of vectors cut at its zeros, repetitions of a ray merged."""
    if not any(map(any, corners)):
        return []
    if all(map(any, corners)):
        chain = _merged(corners + corners[:1])
        return [chain]
    first = next(i for i, corner in enumerate(corners) if not any(corner))
    chains: list[list[Vector]] = [[]]
    for corner in corners[first:] + corners[:first]:
        if any(corner):
            chains[-1].append(corner)
        else:
            chains.append([])
    return [_merged(chain) for chain in chains if chain]


def _merged(chain: list[Vector]) -> list[Vector]:
    rays = [_primitive(corner) for corner in chain]
    return rays[:1] + [b for a, b in pairwise(rays) if a != b]


def _cones(chains: list[list[Vector]]) -> Iterator[list[Vector]]:
    """Cones {m : c . m >= 0 for every c} that, with their mirror images, hold every normal to two independent columns.

    Where two edges meet in a corner v, the normals to v alone are left out: a normal to one column on either side
    has v and the two far corners on opposite sides.
    """
    edges = [edge for chain in chains for edge in (pairwise(chain) if len(chain) > 1 else [(chain[0],) * 2])]
    for p, q in edges:
        if p != q:
            yield [p, _minus(p), q, _minus(q)]
    for first, second in combinations(edges, 2):
        shared = set(first) & set(second)
        if shared:
            (v,) = shared
            yield [v, *(_minus(w) for w in {*first, *second} - shared)]
        else:
            (p, q), (r, s) = first, second
            yield [p, _minus(q), r, _minus(s)]
            yield [p, _minus(q), _minus(r), s]


def _triangles(cone: list[Vector]) -> Iterator[Triangle]:
    """Triangles of rays whose conic hulls cover the cone, each within one octant, where no angle is obtuse."""
    for signs in product((1, -1), repeat=3):
        octant = [tuple(sign * (i == j) for j in range(3)) for i, sign in enumerate(signs)]
        planes = list(dict.fromkeys(cone + octant))
        crossings = {_primitive(_cross(a, b)) for a, b in combinations(planes, 2)} - {(0, 0, 0)}
        both = crossings | {_minus(ray) for ray in crossings}
        rays = sorted(ray for ray in both if all(_dot(plane, ray) >= 0 for plane in planes))
        if rays:
            # A fan from one ray to all pairs: some triangles overlap, none is missing, and fewer rays repeat.
            apex, others = rays[0], rays[1:] + rays[:1] * max(0, 3 - len(rays))
            yield from ((apex, a, b) for a, b in combinations(others, 2))


def _least(gram: list[Vector], triangles: list[Triangle], tolerance: Fraction, total: Fraction) -> Fraction:
    """A lower bound on |m' y|^2 / |m|^2 over all m in the triangles' conic hulls, tight up to `tolerance`."""
    order = count()
    upper = min(Fraction(_form(gram, ray, ray), _dot(ray, ray)) for triangle in triangles for ray in triangle)
    queue = []

    def push(triangle: Triangle) -> None:
        bound, edge = _bound(gram, triangle)
        heapq.heappush(queue, (bound, next(order), triangle, edge))

    for triangle in dict.fromkeys(triangles):
        push(triangle)
    while queue[0][0] < (1 - tolerance) * upper:
        if upper <= tolerance * total:
            return Fraction(0)
        _, _, triangle, (i, j) = heapq.heappop(queue)
        middle = _between(triangle[i], triangle[j])
        upper = min(upper, Fraction(_form(gram, middle, middle), _dot(middle, middle)))
        for end in (i, j):
            a, b, c = (middle if k == end else ray for k, ray in enumerate(triangle))
            push((a, b, c))
    return max(min(queue[0][0], upper), Fraction(0))


def _bound(gram: list[Vector], triangle: Triangle) -> tuple[Fraction | float, tuple[int, int]]:
    """A lower bound on |m' y|^2 / |m|^2 for m = sum a_i v_i, a >= 0, and the pair of rays that sets it.

    Both squares are sums over pairs, of a_i a_j v_i' y y' v_j and a_i a_j v_i' v_j >= 0: a ratio of sums is at least the
    least ratio of terms.
    """
    pairs = [(i, j) for i in range(3) for j in range(i, 3)]
    return min((_ratio(_form(gram, triangle[i], triangle[j]), _dot(triangle[i], triangle[j])), (i, j)) for i, j in pairs)


def _ratio(numerator: int, denominator: int) -> Fraction | float:
    if denominator:
        return Fraction(numerator, denominator)
    return inf if numerator >= 0 else -inf


def _between(a: Vector, b: Vector) -> Vector:
    """A ray between two others, about halfway: their sum at about equal lengths."""
    bits = [max(abs(c) for c in v).bit_length() for v in (a, b)]
    first, second = (max(bits) - n for n in bits)
    return _primitive(tuple((p << first) + (q << second) for p, q in zip(a, b, strict=True)))


def _column(points: list[Vector], unit: Vector) -> Vector:
    """h(w) = relu(x w)."""
    return tuple(max(0, _dot(point, unit)) for point in points)


def _form(gram: list[Vector], a: Vector, b: Vector) -> int:
    return _dot(a, tuple(_dot(row, b) for row in gram))


def _dot(a: Vector, b: Vector) -> int:
    return sum(p * q for p, q in zip(a, b, strict=True))


def _cross(a: Vector, b: Vector) -> Vector:
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def _minus(a: Vector) -> Vector:
    return tuple(-c for c in a)


def _primitive(a: Vector) -> Vector:
    """The shortest integer vector along a ray; zero stays zero."""
    divisor = gcd(*a) or 1
    return tuple(c // divisor for c in a)


def _by_angle(a: Vector, b: Vector) -> int:
    """Compare plane vectors by their angle in [0, 2 pi)."""
    halves = [v[1] < 0 or (v[1] == 0 and v[0] < 0) for v in (a, b)]
    return halves[0] - halves[1] or b[0] * a[1] - b[1] * a[0]


def _rounded_down(value: Fraction) -> float:
    nearest = float(value)
    return nearest if Fraction(nearest) <= value else nextafter(nearest, -inf)
