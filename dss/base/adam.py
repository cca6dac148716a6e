"""Adam without torch's compiler, whose import takes a second of every process that makes its first optimizer."""

from collections.abc import Callable
from inspect import unwrap

import torch

# What torch puts around an optimizer's methods is for compiled training steps alone, and imports the compiler to ask for them.
_STEP = unwrap(torch.optim.Adam.step)


class Adam(torch.optim.Adam):
    """`torch.optim.Adam`: the same arguments and the same numbers. A step of it is not to be compiled."""

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step; gradients are those of the parameters, or what the closure leaves there."""
        with torch.no_grad():
            return _STEP(self, closure)
