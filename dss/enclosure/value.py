"""The value that flows through a network: where each entry is, to first order in the place tau on a cell."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dss.base.errors import EnclosureError
from dss.enclosure.operators import Operators
from dss.enclosure.registry import answer, name_of, refusal
from dss.enclosure.rounding import above, largest, raised

PARTS = ("center", "slope", "error", "bend", "twist")
_LAZY = ("_most", "_reach", "_amount", "_sway", "_magnitude")

CORNERS = ((-1.0, 1.0), (-0.75, 0.0), (-0.25, -1.0), (0.25, -1.0), (0.75, 0.0), (1.0, 1.0))
"""(tau, q) of a polygon that contains the curve q = 2 tau^2 - 1: tangents at -1, -1/2, 0, 1/2, 1 and the chord. A function
convex in (tau, q) is largest at one of them."""

METADATA = {
    "__hash__", "is_conj", "is_neg", "is_inference",
    "dim", "size", "numel", "ndimension", "is_floating_point", "is_complex", "__len__", "element_size", "get_device", "nelement",
    "is_contiguous", "stride", "shape", "dtype", "device", "ndim", "requires_grad", "is_nested", "layout", "is_cuda", "is_cpu",
    "is_mps", "is_sparse", "is_quantized", "is_leaf", "names", "itemsize", "nbytes", "is_meta", "has_names",
}  # fmt: skip
"""What a tensor says of itself without its entries."""


_Tensor = Operators if TYPE_CHECKING else torch.Tensor


class Enclosure(_Tensor):
    """A tensor of which every entry is `center + slope tau + bend (2 tau^2 - 1) + twist (4 tau^3 - 3 tau) + E`.

    tau in [-1, 1] is the place on the cell, whose polynomials are Chebyshev's, and |E| <= error is each entry's own. What depends
    on tau can cancel on the way through a network; an error only grows.

    Each operation on it is answered by the rule registered under its name. It never changes, so that a rule may keep it
    for the trace-back; what an unchanged `nn.Module` sees, and may write into, is a `StandIn` for it. The components are
    float64. Slope and error may be 0-dimensional: they then hold for every entry, and such a slope is zero (the tensor
    does not move) unless the center is a scalar itself.

    Attributes:
        center, slope, error: the components. Infinite or NaN components mean "nothing is known".
        bend, twist: None for zero.
        node: where its error comes from, as `adjoint` noted it; None if it did not.
        exact: whether it is a given constant, whose error is zero.
        ragged: whether some entries may be larger than others by orders of magnitude, as those are that a mask shuts out
            (-inf, -1e9): then each is rounded by itself.
        ceiling: None, or the values at `CORNERS` of a function convex in (tau, 2 tau^2 - 1) that lies above the entry.

    Its sizes, each at least as large as the true one (what is rounded is rounded up):

        curvature   |bend|                                   how far the parabola takes an entry
        torsion     |twist|                                  how far the cubic takes it
        sway        |slope| + curvature + torsion            how far it gets from its center without its error
        amount      |center|
        magnitude   amount + sway                            its largest absolute value without its error
        radius      error + torsion                          how far it gets from its place on the parabola
        extent      (least, largest value)                   with the parabola's turn found exactly
        most        one number >= all magnitudes             for roundings, which need no better
        reach       most + largest error                     the same with the errors
    """

    center: Tensor
    slope: Tensor
    error: Tensor
    bend: Tensor | None
    twist: Tensor | None
    ceiling: tuple[Tensor, ...] | None
    node: Any
    exact: bool
    ragged: bool

    @staticmethod
    def __new__(
        cls,
        center: Tensor,
        slope: Tensor,
        error: Tensor,
        bend: Tensor | None = None,
        twist: Tensor | None = None,
        *,
        ceiling: tuple[Tensor, ...] | None = None,
    ) -> "Enclosure":
        shape = center.shape
        self = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=center.dtype, device=center.device)
        self.center, self.ceiling = center, ceiling
        self.slope, self.error = (part if part.dim() == 0 else part.expand(shape) for part in (slope, error))
        self.bend, self.twist = (None if part is None else part.expand(shape) for part in (bend, twist))
        self.node, self.exact, self.ragged = None, False, False
        for name in _LAZY:
            setattr(self, name, None)
        return self

    @property
    def most(self) -> Tensor:
        """One number at least as large as every entry's magnitude."""
        if self._most is None:
            self._most = largest(self.center) + largest(self.slope)
            for part in (self.bend, self.twist):
                self._most = self._most if part is None else self._most + largest(part)
        return self._most

    @property
    def reach(self) -> Tensor:
        """`most` and the largest error."""
        if self._reach is None:
            error = self.error  # not negative
            self._reach = self.most + (error.amax() if error.numel() else error.new_zeros(()))
        return self._reach

    @property
    def still(self) -> bool:
        """Whether the tensor does not move with tau, to first order."""
        return self.slope.dim() == 0 < self.center.dim()

    @property
    def fixed(self) -> bool:
        """Whether nothing of it depends on tau."""
        return self.still and self.bend is None and self.twist is None

    @property
    def curvature(self) -> Tensor:
        """`|bend|`."""
        return self.center.new_zeros(()) if self.bend is None else self.bend.abs()

    @property
    def torsion(self) -> Tensor:
        """`|twist|`."""
        return self.center.new_zeros(()) if self.twist is None else self.twist.abs()

    @property
    def magnitude(self) -> Tensor:
        """The largest absolute value without the error."""
        if self._magnitude is None:
            self._magnitude = self.amount + self.sway
        return self._magnitude

    @property
    def sway(self) -> Tensor:
        """How far an entry gets from its center without the error."""
        if self._sway is None:
            self._sway = (self.slope.abs() + self.curvature + self.torsion).expand(self.center.shape)
        return self._sway

    @property
    def amount(self) -> Tensor:
        """`|center|`."""
        if self._amount is None:
            self._amount = self.center.abs()
        return self._amount

    @property
    def radius(self) -> Tensor:
        """How far an entry gets from its place `center + slope tau + bend (2 tau^2 - 1)`."""
        return self.error if self.twist is None else self.error + self.torsion

    @property
    def extent(self) -> tuple[Tensor, Tensor]:
        """The least and the largest value, of which the tau on the cell is found exactly."""
        tilt, radius = self.slope.abs(), self.radius
        if self.bend is None:
            return self.center - (tilt + radius), self.center + (tilt + radius)
        # The parabola turns inside the cell where |slope| < 4 |bend|, at center - bend - slope^2 / (8 bend).
        turns = tilt < 4 * self.bend.abs()
        turn = -self.bend - tilt * tilt / (8 * torch.where(turns, self.bend, 1.0))
        low, high = self.bend - tilt, self.bend + tilt
        low, high = (torch.where(turns, pick(end, turn), end) for pick, end in ((torch.minimum, low), (torch.maximum, high)))
        return self.center + low - radius, self.center + high + radius

    def at(self, corner: tuple[float, float]) -> Tensor:
        """The place at one of `CORNERS`."""
        tau, square = corner
        place = self.center + tau * self.slope
        return place if self.bend is None else place + square * self.bend

    @property
    def corners(self) -> Tensor:
        """The places at all of `CORNERS`, one after the other: the numbers of `at` in fewer operations."""
        corners = torch.tensor(CORNERS, dtype=torch.float64).to(self.center)
        tau, square = corners.T.reshape(2, -1, *[1] * self.center.dim())
        place = self.center + tau * self.slope
        return place if self.bend is None else place + square * self.bend

    def __repr__(self, **_) -> str:
        return f"Enclosure(shape={tuple(self.center.shape)})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise refusal(str(func))

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        name, kwargs = name_of(func), dict(kwargs or {})
        if name in METADATA:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if kwargs.pop("inplace", False) or kwargs.pop("out", None) is not None:
            raise refusal(name, "in place: an enclosure never changes")
        return answer(name, func, args, kwargs)


def ceiling(x: Enclosure) -> tuple[Tensor, ...]:
    """Values at `CORNERS` of a function convex in (tau, q) above `x`."""
    if x.ceiling is not None:
        return x.ceiling
    return tuple(above(x.at(corner) + x.radius, x.magnitude) for corner in CORNERS)


def lift(value: Tensor | float) -> Enclosure:
    """`value` itself, or a constant as an enclosure that neither moves nor errs."""
    if isinstance(value, Enclosure):
        return value
    if isinstance(value, Tensor) and value.is_complex():
        raise EnclosureError("complex numbers cannot be enclosed")
    center = value.to(torch.float64) if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
    zero = torch.zeros((), dtype=torch.float64, device=center.device)
    result = Enclosure(center, zero, zero)
    result.exact = True
    return result


def settled(center: Tensor, slope: Tensor, error: Tensor, bend=None, twist=None, *, magnitude: Tensor | None = None,
            ceiling=None) -> Enclosure:  # fmt: skip
    """The enclosure computed by an elementwise formula; `magnitude` bounds the terms that were added for its parts."""
    result = Enclosure(center, slope, error, bend, twist, ceiling=ceiling)
    error = raised(error, result.most if magnitude is None else magnitude)
    result.error = error if error.dim() == 0 else error.expand(center.shape)
    return result
