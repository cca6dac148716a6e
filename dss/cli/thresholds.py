"""Thresholds as people write them: a loss, or a multiple of the higher end's."""

import argparse
import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.objectives.objective import Objective

log = logging.getLogger(__name__)

HELP = "L0: the loss that must not be exceeded anywhere on the path; 1.1x is 1.1 times the higher end's"


@dataclass(frozen=True)
class Threshold:
    """A loss, or a multiple of the higher end's, which is known once the judge and the two ends `(p,)` are.

    Attributes:
        text: as it was written.
        number: the loss, or the factor.
        relative: which of the two.
    """

    text: str
    number: float
    relative: bool

    def __str__(self) -> str:
        return self.text

    def __call__(self, judge: Objective, start: Tensor, end: Tensor) -> float:
        """The loss.

        Raises:
            InputError: a multiple of what is not positive, or a factor below 1.
        """
        if not self.relative:
            return self.number
        with torch.no_grad():
            higher = judge(torch.stack([start, end])).max().item()
        if not higher > 0 or not self.number >= 1:
            raise InputError(
                f"a threshold of {self.text} needs a factor of at least 1 and ends with positive losses, got {higher:g}; give a number"
            )
        log.info("the threshold %s is %.6g, for the higher end's loss is %.6g", self.text, self.number * higher, higher)
        return self.number * higher


def threshold(text: str) -> Threshold:
    """Read `0.4`, or `1.1x`.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    relative = text.lower().endswith("x")
    try:
        return Threshold(text, float(text[:-1] if relative else text), relative)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a loss such as 0.4, or a multiple such as 1.1x, is needed, got {text!r}") from None
