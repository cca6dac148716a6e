"""Memory that a `forward` makes anew and then writes into."""

import torch
from torch.overrides import TorchFunctionMode

from dss.enclosure.standin import constant

_MAKERS = {torch.zeros, torch.ones, torch.full, torch.empty}


class FreshMemory(TorchFunctionMode):
    """Within it what `torch.zeros` and the like make can hold enclosures, as what a `forward` is given can.

    Only what the network itself calls is seen: a rule works with the mode switched off.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        # What is not written yet is read by no network whose loss is a function of its parameters: zeros do.
        made = (torch.zeros if func is torch.empty else func)(*args, **(kwargs or {}))
        return constant(made) if func in _MAKERS and made.is_floating_point() and "out" not in (kwargs or {}) else made
