"""How much worse than its ends an average may be."""

from dataclasses import dataclass
from math import isfinite

from torch import Tensor

from dss.base.errors import InputError


@dataclass(frozen=True)
class Tolerance:
    """What is allowed above a loss: so much, or such a share of it.

    Attributes:
        amount: of the loss, or the share; not negative.
        relative: which of the two.
    """

    amount: float
    relative: bool

    @classmethod
    def of(cls, given: "float | str | Tolerance") -> "Tolerance":
        """Read `0.02` (so much), or `"1.05x"` (so many times the loss).

        Raises:
            InputError: it is neither, or allows less than the loss itself.
        """
        if isinstance(given, Tolerance):
            return given
        text = str(given).strip().lower()
        try:
            number = float(text.removesuffix("x"))
        except ValueError:
            number = -1.0
        amount = number - 1 if text.endswith("x") else number
        if not (amount >= 0 and isfinite(amount)):
            raise InputError(f"a tolerance is an amount such as 0.02, or a multiple of at least 1 such as 1.05x, got {given!r}")
        return cls(amount, text.endswith("x"))

    def above(self, loss: Tensor) -> Tensor:
        """What is allowed where `loss` is expected; a share of a negative loss is one of its size."""
        return loss + (self.amount * loss.abs() if self.relative else self.amount)

    def __str__(self) -> str:
        return f"{1 + self.amount:g}x" if self.relative else f"{self.amount:g}"
