"""Thresholds as people write them: a loss, or a multiple of the higher end's."""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.objectives.objective import Objective

HELP = "L0: the loss that must not be exceeded anywhere on the path; 1.1x is 1.1 times the higher end's"

Threshold = Callable[[Objective, Tensor, Tensor], float]


def threshold(text: str) -> Threshold:
    """Read `0.4`, or `1.1x`; the result tells the loss once the judge and the two ends `(p,)` are known.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    relative = text.lower().endswith("x")
    try:
        number = float(text[:-1] if relative else text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a loss such as 0.4, or a multiple such as 1.1x, is needed, got {text!r}") from None
    if not relative:
        return lambda judge, start, end: number

    def multiple(judge: Objective, start: Tensor, end: Tensor) -> float:
        with torch.no_grad():
            higher = judge(torch.stack([start, end])).max().item()
        if not higher > 0 or not number >= 1:
            raise InputError(
                f"a threshold of {text} needs a factor of at least 1 and ends with positive losses, got {higher:g}; give a number"
            )
        return number * higher

    return multiple
