"""`--max-seconds` of a whole command: a moment after which no loss is evaluated any more."""

import argparse
import math
import time

import torch
from torch import Tensor

from dss.base.limits import Limits, Spent, Status
from dss.objectives.objective import Objective
from dss.objectives.wrappers import Wrapped


def start(options: argparse.Namespace) -> None:
    """The command begins: its seconds count from here, reading and asking the task included."""
    options.began = time.monotonic()


def asked(options: argparse.Namespace) -> None:
    """The task was read and asked: a page, which does so once more, takes as long before its first loss."""
    options.asking = time.monotonic() - options.began


def left(options: argparse.Namespace, limits: Limits) -> Limits:
    """The limits, with the seconds that the command has left."""
    return limits.left(options.began)


def until(options: argparse.Namespace) -> float | None:
    """When the command's time is up on `time.monotonic()`; None is never."""
    return None if options.max_seconds is None else options.began + options.max_seconds


def room_for_page(options: argparse.Namespace) -> float | None:
    """How long a command's page may still evaluate losses, as a moment of `time.monotonic()`: not at all (a moment that is past)
    where the time would be up before its first loss."""
    moment = until(options)
    return moment if moment is None or time.monotonic() + options.asking < moment else -math.inf


def timed(objective: Objective, options: argparse.Namespace) -> Objective:
    """The objective, which raises `Spent` once the command's time is up; the same one where there is no limit."""
    moment = until(options)
    return objective if moment is None else Timed(objective, moment)


class Timed(Wrapped):
    """`objective` until a moment of `time.monotonic()`; it looks at the clock before every point."""

    def __init__(self, objective: Objective, until: float):
        super().__init__(objective)
        self.until = until

    def __call__(self, points: Tensor) -> Tensor:
        return torch.cat([self._one(row) for row in points.split(1)])

    def _one(self, row: Tensor) -> Tensor:
        if time.monotonic() >= self.until:
            raise Spent(Status.SECONDS)
        return self.objective(row)
