"""What there is to do for a tree: which pairs, down to which level, in which direction, under which seed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dss.base.digest import digest
from dss.base.errors import InputError
from dss.topology.points import Pair


@dataclass(frozen=True)
class Goals:
    """When a pair needs no search, and where a search may stop.

    Attributes:
        close: a pair whose straight line rises above its floor by at most this share of it is not searched.
        aim: a search may stop at this share above the floor, or a thousandth of what the straight line rises above it.
    """

    close: float = 0.05
    aim: float = 0.01

    def __post_init__(self):
        if not (self.close >= 0 and self.aim > 0):
            raise InputError(f"close is at least 0 and aim above 0, got {self.close} and {self.aim}")

    def is_close(self, floor: float, line: float) -> bool:
        """Whether a straight line is so near its floor that a search has nothing to gain."""
        return line - floor <= self.close * abs(floor)

    def of(self, floor: float, line: float) -> float:
        """The goal of a pair."""
        return floor + max(self.aim * abs(floor), 1e-3 * (line - floor), torch.finfo(torch.float32).tiny)


@dataclass(frozen=True, eq=False)
class Job:
    """One pair to be searched or, if its straight line is low enough, to be certified: what a worker needs beside the points.

    Attributes:
        pair: i < j.
        goal: the level at which the search may stop.
        line: whether the straight line is to be certified as it is.
        reverse: the search runs from j to i: from the point of smaller digest, whatever the order of the points.
        seed: of every random choice, from the digests of the two points.
    """

    pair: tuple[int, int]
    goal: float
    line: bool
    reverse: bool
    seed: int

    @property
    def ends(self) -> tuple[int, int]:
        """Where the search starts, and where it ends."""
        first, second = self.pair
        return (second, first) if self.reverse else (first, second)


def jobs_of(
    pairs: Sequence[Pair], points: Tensor, straight: Tensor, floors: Tensor, goals: Goals, prove: bool, seed: int
) -> list[Job]:
    """What there is to do for the pairs, those that lie highest above their floor first."""
    digests = [digest(point) for point in points]
    jobs = []
    for i, j in sorted(pairs, key=lambda pair: (floors[pair] - straight[pair]).item()):
        if digests[i] == digests[j]:
            continue  # the same point twice: there is nothing between
        floor, line = floors[i, j].item(), straight[i, j].item()
        near = goals.is_close(floor, line)
        if near and not prove:
            continue
        reverse = digests[i] > digests[j]
        jobs.append(Job((i, j), goals.of(floor, line), near, reverse, pair_seed(seed, digests[i], digests[j])))
    return jobs


def pair_seed(seed: int, first: str, second: str) -> int:
    """A seed of a pair, from the digests of its points in any order."""
    text = "/".join([str(seed), *sorted([first, second])])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")
