"""Functions that jump: exact on either side, and both sides where the jump may lie inside a cell."""

import math

import torch
from torch import Tensor

from dss.enclosure.adjoint import through
from dss.enclosure.registry import rule
from dss.enclosure.rounding import UNIT
from dss.enclosure.rules.curves import SOFTPLUS
from dss.enclosure.rules.kinked import clamp
from dss.enclosure.rules.shapes import where
from dss.enclosure.rules.smooth import apply, ranged
from dss.enclosure.value import Enclosure, lift, settled

SMALL = 15.0
"""Above this threshold the jump of softplus is less than 4e-7, and is taken as an error everywhere beyond it."""


def _side(x: Enclosure, place: float) -> tuple[Tensor, Tensor]:
    """Where `x` surely lies above a place, and where it surely does not."""
    low, high = x.extent
    margin = 32 * UNIT * (low.abs() + high.abs() + abs(place))
    return low - margin > place, high + margin <= place


@rule("softplus")
def softplus(x, beta: float = 1.0, threshold: float = 20.0) -> Enclosure:
    """log(1 + exp(beta x)) / beta; torch's line above the threshold lies at most log(1 + exp(-threshold)) / beta below."""
    x = lift(x)
    z = x * beta
    smooth = apply(SOFTPLUS, z) * (1 / beta)
    if threshold > SMALL:
        return _widened(smooth, (z.extent[1] > threshold) * (1.001 * math.exp(-threshold) / abs(beta)))
    beyond, before = _side(z, threshold)
    jump = 1.001 * (math.log1p(math.exp(-threshold)) if threshold > -700 else -threshold + 1) / abs(beta)
    return where(beyond, x, _widened(smooth, torch.where(before | beyond, 0.0, jump)))


def _widened(x: Enclosure, more: Tensor) -> Enclosure:
    """With a larger error."""
    looser = settled(x.center, x.slope, x.error + more, x.bend, x.twist)
    return through(looser, x, lambda error: error, lambda weight: weight, terms=0)


@rule("threshold", "_threshold")
def threshold(x, threshold: float, value: float) -> Enclosure:
    """x above the threshold and a number up to it: max(x, threshold) if that is the number."""
    if threshold == value:
        return clamp(x, threshold)
    return _jumping(lift(x), threshold, value)


def _jumping(x: Enclosure, place: float, value: float) -> Enclosure:
    """x above a place, a number up to it, anything between its least and largest value where it may be either."""
    beyond, before = _side(x, place)
    low, high = x.extent
    both = ranged(torch.where(low < place, place, low).clamp(max=value), high.clamp(min=value))
    return where(beyond, x, where(before, lift(value), both))


@rule("hardshrink")
def hardshrink(x, lambd: float = 0.5) -> Enclosure:
    """x above l and below -l, 0 between."""
    return _jumping(lift(x), lambd, 0.0) - _jumping(-lift(x), lambd, 0.0)
