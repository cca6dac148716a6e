"""Writes to given places, sums of chosen rows, and products and differences in a fixed order."""

import torch
from torch import Tensor

from dss.base.errors import EnclosureError
from dss.enclosure.registry import rule
from dss.enclosure.rules.arithmetic import add, multiply, subtract, total
from dss.enclosure.rules.kinked import amax, amin
from dss.enclosure.rules.means import averaged, scatter_add
from dss.enclosure.rules.products import embedding
from dss.enclosure.rules.shapes import broadcast, combined, joined, where, with_item
from dss.enclosure.value import Enclosure, lift

MOST_PAIRS = 2**20
"""Places times entries of a sample."""


@rule("scatter")
def scatter(x, dim: int, index, src=None, *, value=None, reduce=None) -> Enclosure:
    """`x` after x[..., index[i], ...] = src[i], at places that do not depend on the parameters.

    Which of several entries for one place wins is looked up once, so that all components take the same.
    """
    given = value if src is None else src
    if reduce is not None or given is None or isinstance(index, Enclosure):
        raise EnclosureError("no rule encloses a scatter with reduce or with places that depend on the parameters")
    x, new = lift(x), broadcast(lift(given), _covering(src, index))
    numbers = torch.arange(new.numel(), device=x.device).view(new.shape)[tuple(slice(size) for size in index.shape)]
    winner = torch.full(x.shape, -1, device=x.device).scatter(dim, index, numbers)

    def chosen(old: Tensor, new: Tensor) -> Tensor:
        return torch.where(winner >= 0, new.flatten()[winner.clamp(min=0)], old)

    return combined(chosen, x, new)


def _covering(src, index: Tensor) -> torch.Size:
    """The shape of the source, or that of the places for a number."""
    return src.shape if isinstance(src, Tensor) and src.dim() else index.shape


@rule("scatter_reduce")
def scatter_reduce(x, dim: int, index, src, reduce: str, *, include_self: bool = True) -> Enclosure:
    """Sums, means and extrema of the entries that go to one place, which does not depend on the parameters."""
    if reduce not in ("sum", "mean", "amax", "amin") or isinstance(index, Enclosure):
        raise EnclosureError(
            f"no rule encloses scatter_reduce with reduce={reduce!r}; sum, mean, amax and amin at given places have one"
        )
    x, dim = lift(x), dim % max(1, x.dim())
    src = lift(src)[tuple(slice(size) for size in index.shape)]
    taken = torch.zeros(x.shape, device=x.device, dtype=torch.float64).scatter_add(
        dim, index, torch.ones_like(index, dtype=torch.float64)
    )
    if reduce in ("amax", "amin"):
        return _extremes(x, dim, index, src, amax if reduce == "amax" else amin, include_self)
    kept = x if include_self else where(taken > 0, 0.0, x)
    sums = scatter_add(kept, dim, index, src)
    return sums if reduce == "sum" else multiply(sums, 1 / (taken + include_self).clamp(min=1))


def _extremes(x: Enclosure, dim: int, index: Tensor, src: Enclosure, extreme, include_self: bool) -> Enclosure:
    """Of every place, over all entries: one that goes elsewhere is replaced by one that belongs there."""
    places = torch.arange(x.shape[dim], device=x.device)
    goes = index.movedim(dim, -1).unsqueeze(-2) == places[:, None]  # (..., places, entries)
    if goes.numel() > MOST_PAIRS:
        raise EnclosureError(f"no rule encloses extrema of so many entries at given places: {goes.numel()} pairs")
    entries, old = src.movedim(dim, -1), x.movedim(dim, -1)[tuple(slice(size) for size in index.movedim(dim, -1).shape[:-1])]
    filler = old if include_self else where(goes.any(-1), _first(entries, goes), old)
    chosen = extreme(where(goes, entries.unsqueeze(-2), filler.unsqueeze(-1)), -1)
    if include_self:
        chosen = extreme(joined(torch.stack, [chosen, old], -1), -1)
    return with_item(
        x, tuple(slice(size) if d != dim else slice(None) for d, size in enumerate(index.shape)), chosen.movedim(-1, dim)
    )


def _first(entries: Enclosure, goes: Tensor) -> Enclosure:
    """Of every place the first entry that goes there, or any."""
    return entries.gather(-1, goes.to(torch.int64).argmax(-1))


@rule("index_put")
def index_put(x, indices, values, accumulate: bool = False) -> Enclosure:
    """Entries written or added at given places."""
    if not accumulate:
        return with_item(x, tuple(indices), values)
    x = lift(x)
    values = broadcast(lift(values), torch.empty(x.shape, device="meta")[_places(indices)].shape)
    zeros = torch.zeros_like(x.center)
    return add(
        x, averaged(values, lambda part: zeros.to(part.dtype).index_put(tuple(indices), part, accumulate=True), values.numel())
    )


def _places(indices) -> tuple:
    return tuple(None if part is None else part.to("meta") for part in indices)


@rule("index_copy")
def index_copy(x, dim: int, index, source) -> Enclosure:
    """Rows written at given places."""
    return with_item(x, (slice(None),) * (dim % x.dim()) + (index,), source)


@rule("index_fill")
def index_fill(x, dim: int, index, value) -> Enclosure:
    """One number written at given places."""
    return index_copy(x, dim, index, value)


@rule("slice_scatter")
def slice_scatter(x, src, dim: int = 0, start=None, end=None, step: int = 1) -> Enclosure:
    """`x` with a slice replaced."""
    return with_item(x, (slice(None),) * (dim % x.dim()) + (slice(start, end, step),), src)


@rule("select_scatter")
def select_scatter(x, src, dim: int, index: int) -> Enclosure:
    """`x` with one row replaced."""
    return with_item(x, (slice(None),) * (dim % x.dim()) + (index,), src)


@rule("embedding_bag")
def embedding_bag(input, weight, offsets=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, mode="mean", sparse=False,
                  per_sample_weights=None, include_last_offset=False, padding_idx=None) -> Enclosure:  # fmt: skip
    """The sum, the mean or the maximum of rows of the table, for bags `(b, l)` of one length."""
    if offsets is not None or input.dim() != 2:
        raise EnclosureError(
            "no rule encloses bags of several lengths, given by offsets; give them as a matrix, with padding_idx"
        )
    rows = embedding(input, weight, max_norm=max_norm)
    if mode == "max":
        if padding_idx is not None:
            raise EnclosureError("no rule encloses a maximum over bags with padding_idx")
        return amax(rows, 1)
    counted = torch.ones_like(input) if padding_idx is None else (input != padding_idx % weight.shape[0]).to(input.dtype)
    shares = counted.to(torch.float64)
    if per_sample_weights is not None:
        rows = multiply(rows, lift(per_sample_weights).unsqueeze(-1))
    sums = total(multiply(rows, shares.unsqueeze(-1)), 1)
    return sums if mode == "sum" else multiply(sums, 1 / counted.sum(1, keepdim=True).clamp(min=1).to(torch.float64))


@rule("cumprod")
def cumprod(x, dim: int, *, dtype=None) -> Enclosure:
    """Products of the first entries, one after the other."""
    products: list[Enclosure] = []
    for part in lift(x).unbind(dim):
        products.append(multiply(products[-1], part) if products else part)
    return joined(torch.stack, products, dim)


@rule("diff")
def diff(x, n: int = 1, dim: int = -1, prepend=None, append=None) -> Enclosure:
    """Differences of neighbours."""
    x = joined(torch.cat, [part for part in (prepend, x, append) if part is not None], dim)
    for _ in range(n):
        count = x.shape[dim] - 1
        x = subtract(x.narrow(dim, 1, count), x.narrow(dim, 0, count))
    return x


@rule("trace")
def trace(x) -> Enclosure:
    """The sum of the diagonal."""
    return total(lift(x).diagonal())


@rule("block_diag")
def block_diag(*tensors) -> Enclosure:
    """Matrices along the diagonal."""
    blocks = [lift(part).reshape(*(1,) * (2 - lift(part).dim()), *part.shape) for part in tensors]
    return combined(torch.block_diag, *blocks)
