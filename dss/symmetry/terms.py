"""What is compared: one array of two networks over the same groups of units."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Term:
    """One array of both networks, in float64: its named axes first, then one for all whose order is pinned.

    Attributes:
        axes: names of groups, or of what they are within.
        a, b: the arrays.
        odd: for each axis whether it changes sign where a unit of its group is reflected.
    """

    axes: tuple[str, ...]
    a: Tensor
    b: Tensor
    odd: tuple[bool, ...] = ()

    @classmethod
    def of(cls, axes: Sequence[str | None], a: Tensor, b: Tensor, odd: Sequence[bool] = ()) -> "Term":
        """From arrays whose axes are named, or None where pinned."""
        named = [dim for dim, name in enumerate(axes) if name is not None]
        order = named + [dim for dim in range(len(axes)) if dim not in named]
        shape = [a.shape[dim] for dim in named]
        a, b = (x.permute(order).reshape(*shape, -1).to(torch.float64, copy=True) for x in (a, b))
        return cls(tuple(name for name in axes if name is not None), a, b, tuple(odd[dim] for dim in named) if odd else ())

    def scaled(self, size: float) -> "Term":
        """The term with arrays of that norm; zeros stay."""
        a, b = (x * (size / max(x.norm().item(), torch.finfo(x.dtype).tiny)) for x in (self.a, self.b))
        return Term(self.axes, a, b, self.odd)

    def rows(self, array: Tensor, *dims: int) -> Tensor:
        """The array `(sizes of dims..., rest)`."""
        return array.movedim(dims, tuple(range(len(dims)))).reshape(*(array.shape[dim] for dim in dims), -1)
