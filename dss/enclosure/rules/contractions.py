"""Products of tensors by other names, through the rules of `matmul` and `einsum`."""

from functools import reduce
from string import ascii_letters

from dss.base.errors import EnclosureError
from dss.enclosure.registry import rule
from dss.enclosure.rules.arithmetic import add, multiply, subtract
from dss.enclosure.rules.products import einsum, matmul
from dss.enclosure.value import Enclosure, lift


@rule("tensordot")
def tensordot(a, b, dims: int | tuple = 2, out=None) -> Enclosure:
    """Sums over pairs of dimensions, or over the last of one and the first of the other."""
    a, b = lift(a), lift(b)
    ones, others = (range(a.dim() - dims, a.dim()), range(dims)) if isinstance(dims, int) else dims
    of_a, of_b = list(ascii_letters[: a.dim()]), list(ascii_letters[a.dim() : a.dim() + b.dim()])
    for one, other in zip(ones, others, strict=True):
        of_b[other] = of_a[one]
    kept = [label for label in of_a + of_b if (label in of_a) != (label in of_b)]
    return einsum(f"{''.join(of_a)},{''.join(of_b)}->{''.join(kept)}", a, b)


@rule("outer")
def outer(x, y) -> Enclosure:
    """x_i y_j."""
    return multiply(lift(x).unsqueeze(-1), y)


@rule("inner")
def inner(x, y) -> Enclosure:
    """Sums over the last dimension of both."""
    x, y = lift(x), lift(y)
    return tensordot(x, y, ([-1], [-1])) if x.dim() and y.dim() else multiply(x, y)


@rule("kron")
def kron(x, y) -> Enclosure:
    """Every entry of the one times the whole other."""
    x, y = lift(x), lift(y)
    dims = max(x.dim(), y.dim())
    x, y = (part.reshape(*[1] * (dims - part.dim()), *part.shape) for part in (x, y))
    pairs = multiply(
        x.reshape(*(size for each in x.shape for size in (each, 1))), y.reshape(*(size for each in y.shape for size in (1, each)))
    )
    return pairs.reshape(*(one * other for one, other in zip(x.shape, y.shape)))


@rule("linalg_vecdot")
def vecdot(x, y, *, dim: int = -1) -> Enclosure:
    """Sums of products along one dimension."""
    x, y = (lift(part).movedim(dim, -1) for part in (x, y))
    return matmul(x.unsqueeze(-2), y.unsqueeze(-1)).squeeze(-1).squeeze(-1)


@rule("linalg_matmul")
def linalg_matmul(x, y) -> Enclosure:
    """`matmul`."""
    return matmul(x, y)


@rule("linalg_multi_dot", "chain_matmul")
def multi_dot(*tensors) -> Enclosure:
    """One product after the other, from the left."""
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    return reduce(matmul, tensors)


@rule("cross", "linalg_cross")
def cross(x, y, dim: int | None = -1) -> Enclosure:
    """x_1 y_2 - x_2 y_1 and so on around."""
    if dim is None:
        raise EnclosureError("no rule encloses torch.cross without dim; call torch.linalg.cross")
    x, y = lift(x), lift(y)
    return subtract(
        multiply(x.roll(-1, dim), y.roll(-2, dim)),
        multiply(x.roll(-2, dim), y.roll(-1, dim)),
    )


@rule("addmv")
def addmv(x, matrix, vector, *, beta=1, alpha=1) -> Enclosure:
    """beta x + alpha A v."""
    return add(multiply(lift(x), beta), multiply(matmul(matrix, vector), alpha))


@rule("addr")
def addr(x, first, second, *, beta=1, alpha=1) -> Enclosure:
    """beta x + alpha u v^T."""
    return add(multiply(lift(x), beta), multiply(outer(first, second), alpha))


@rule("addbmm")
def addbmm(x, first, second, *, beta=1, alpha=1) -> Enclosure:
    """beta x + alpha sum_b A_b B_b."""
    return add(multiply(lift(x), beta), multiply(einsum("bij,bjk->ik", first, second), alpha))
