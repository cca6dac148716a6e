"""Averages of several models: the uniform soup and the greedy one (Wortsman et al. 2022, "Model soups")."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dss.certificates.sampling import as_losses
from dss.objectives.objective import Objective


@dataclass(frozen=True, eq=False)
class Soup:
    """An average of some points.

    Attributes:
        members: their numbers, in the order in which they were added.
        point: `(p,)`.
        loss: its judged loss.
        metrics: other losses of it, by name.
    """

    members: tuple[int, ...]
    point: Tensor = field(repr=False)
    loss: float
    metrics: dict[str, float] = field(default_factory=dict)


def average(points: Tensor, members: Sequence[int]) -> Tensor:
    """The mean `(p,)` of some rows of `(n, p)`, added up in float64 one after the other: one extra point in memory."""
    total = torch.zeros(points.shape[1], dtype=torch.float64, device=points.device)
    for member in members:
        total += points[member]
    return total.div_(len(members)).to(points.dtype)


def loss_of(judge: Objective, point: Tensor) -> float:
    """The loss of one point, infinite where it is not a number."""
    with torch.no_grad():
        return as_losses(judge(point[None])).item()


def uniform_soup(judge: Objective, points: Tensor) -> Soup:
    """The average of all points `(n, p)`."""
    members = tuple(range(len(points)))
    point = average(points, members)
    return Soup(members, point, loss_of(judge, point))


def greedy_soup(judge: Objective, points: Tensor, losses: Tensor) -> Soup:
    """Points in the order of their losses `(n,)`, each kept if the average with it is not worse.

    Source: Wortsman et al. 2022, algorithm 1 (Recipe 1, GreedySoup); the lower number goes first where losses are equal.
    """
    first, *others = losses.argsort(stable=True).tolist()
    soup = Soup((first,), points[first], losses[first].item())
    for member in others:
        members = (*soup.members, member)
        point = average(points, members)
        loss = loss_of(judge, point)
        if loss <= soup.loss:
            soup = Soup(members, point, loss)
    return soup
