"""Square matrices turned into each other without becoming singular, for linear networks with a square bottleneck.

A square matrix below another is brought to diag(+-1, 1, ..., 1), the sign that of its determinant, and the one above follows as
P B^-1, so that the product is P at every corner. Between corners B and B' the product is, with X = B^-1 B',

    ((1 - t) P B^-1 + t P B'^-1) ((1 - t) B + t B') = P + t (1 - t) P (X + X^-1 - 2 I):

a straight walk from P to the product at t = 1/2 and back. So a convex loss is at most the larger of a corner's and that of the
piece's middle, which differs from it by a second-order term of the step.
"""

import math

import torch
from torch import Tensor


def turned(above: Tensor, below: Tensor, arcs: int) -> list[tuple[Tensor, Tensor]]:
    """Corners of a pair on the way to (P D, D), P = above @ below, D = diag(sign det below, 1, ..., 1).

    Args:
        above: `(q, r)`.
        below: `(r, r)`, not singular.
        arcs: pieces for each of two curves: stretching to an orthogonal matrix, and rotation.
    """
    whole = above @ below
    u, s, v = torch.linalg.svd(below)
    orthogonal, goal = u @ v, torch.eye(len(below), dtype=torch.float64)
    goal[0, 0] = torch.linalg.det(orthogonal).sign()
    stretched = [orthogonal @ (v.T * s ** (1 - t)) @ v for t in _places(arcs)]
    rotation = Rotation(orthogonal @ goal)  # goal is its own inverse
    rotated = [rotation.share(1 - t) @ goal for t in _places(arcs)]
    way = [*stretched, *rotated[:-1], goal]
    return [(whole @ torch.linalg.inv(matrix), matrix) for matrix in way]


class Rotation:
    """A rotation `(r, r)` of determinant 1, and shares of it."""

    def __init__(self, matrix: Tensor):
        from scipy.linalg import schur

        blocks, basis = schur(matrix.numpy(), output="real")[:2]
        self.basis, self.planes = torch.from_numpy(basis), []
        flipped, k = [], 0
        while k < len(blocks):
            if k + 1 < len(blocks) and abs(blocks[k + 1, k]) > 1e-12:
                angle = math.atan2(blocks[k + 1, k], blocks[k, k])
                self.planes.append((k, k + 1, angle))
                k += 2
            else:
                flipped += [k] if blocks[k, k] < 0 else []
                k += 1
        # Directions that are reversed come in pairs, for the determinant is 1: half a turn of their plane.
        self.planes += [(i, j, math.pi) for i, j in zip(flipped[::2], flipped[1::2], strict=True)]

    def share(self, t: float) -> Tensor:
        """The rotation by t times the angles."""
        turn = torch.eye(len(self.basis), dtype=torch.float64)
        for i, j, angle in self.planes:
            cos, sin = math.cos(t * angle), math.sin(t * angle)
            turn[i, i], turn[j, j], turn[i, j], turn[j, i] = cos, cos, -sin, sin
        return self.basis @ turn @ self.basis.T


def _places(arcs: int) -> list[float]:
    return [k / arcs for k in range(1, arcs + 1)]
