"""The order of images in memory: convolutions on a CPU are quicker where an image's channels lie together."""

from collections.abc import Callable

import torch
from torch import nn

from dss.objectives.network.samples import Samples


def takes_channels_last(model: nn.Module, few: Samples, run: Callable[[Samples], object]) -> bool:
    """Whether a model convolves images, and runs where they are given in channels-last order.

    What it computes of them lies in that order, too, so one that reads it by `view` runs in torch's plain order alone.

    Args:
        few: samples in the dtype and on the device of the model.
        run: what is to run on them; it must not change the model.
    """
    if not any(isinstance(module, nn.Conv2d) for module in model.modules()):
        return False
    one = few.leaves[0]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            run(few.cast(one.dtype, one.device, channels_last=True))
    except Exception:  # the caller's code may raise anything
        return False
    return True
