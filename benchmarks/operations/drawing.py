"""How operations are drawn: with random options, for samples of a shape.

An operation is drawn for the shape of one sample: `OPERATIONS[name](draw, shape)` gives a `Step`, or None if the operation
does not take such tensors. A step is a function of a batch of samples and of the parameters whose shapes it names.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Shape = tuple[int, ...]
Function = Callable[..., Tensor]


@dataclass(frozen=True)
class Step:
    """`function(h, *parameters)` for `h` `(batch, *shape)`; `rounds` says that it rounds to float32 on its way."""

    function: Function
    parameters: tuple[Shape, ...] = ()
    rounds: bool = False


class Draw(random.Random):
    """Random choices of one network."""

    def tensor(self, *shape: int) -> Tensor:
        """A constant in float32, as a forward would make it."""
        return torch.randn(shape, generator=torch.Generator().manual_seed(self.getrandbits(62)))

    def whole(self, most: int, *shape: int) -> Tensor:
        """Indices below `most`."""
        return torch.randint(most, shape, generator=torch.Generator().manual_seed(self.getrandbits(62)))

    def mask(self, *shape: int) -> Tensor:
        """Booleans."""
        return self.tensor(*shape) > 0


Maker = Callable[[Draw, Shape], Step | None]
OPERATIONS: dict[str, Maker] = {}


def operation(name: str, *dims: int) -> Callable[[Maker], Maker]:
    """Register the maker of an operation on samples of so many dimensions; any by default."""

    def register(maker: Maker) -> Maker:
        OPERATIONS[name] = lambda draw, shape: maker(draw, shape) if not dims or len(shape) in dims else None
        return maker

    return register


def several(functions: dict[str, Function], *dims: int, rounds: bool = False) -> None:
    """Register functions of the batch alone."""
    for name, function in functions.items():
        OPERATIONS[name] = lambda draw, shape, f=function: Step(f, (), rounds) if not dims or len(shape) in dims else None


def last(draw: Draw, shape: Shape) -> int:
    """A dimension of the batch that is not that of the samples, from either end."""
    dim = draw.randrange(1, len(shape) + 1)
    return draw.choice((dim, dim - len(shape) - 1))


def like(x: Tensor, h: Tensor) -> Tensor:
    """A constant in the dtype of `h`."""
    return x.to(h.dtype)
