"""From points to their merge tree: straight lines first, then a search of every pair that the tree rests on.

Which pairs? A search may bring a pair down to its floor, the higher end's loss; so first those of the tree that there would
be if all did: each point and the lower point to which its straight line is the lowest. Between wide networks that is all:
K - 1 searches, and no other path could lower the tree. Then the rule of AutoNEB (Draxler et al. 2018): whatever edge the tree
has now that was not searched and lies above its floor, until there is none.

Which pairs a round searches depends on the rounds before alone, never on which search ends first: so the tree does not
depend on how many workers there are.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from typing import Any, Literal

import torch
from torch import Tensor

from dss.base.digest import digest
from dss.base.errors import InputError
from dss.base.path import Path
from dss.base.progress import ProgressMeter
from dss.certificates.sampling import as_losses, sample_segments
from dss.objectives.network import NetworkObjective
from dss.objectives.objective import Objective
from dss.topology.closure import spanning_tree
from dss.topology.frame import aligned
from dss.topology.searching import Job, Search, Searched, SearchOptions, as_finder, search_pair
from dss.topology.tree import MergeTree, Pair

PAIRS = ("tree", "all", "chain")
# Straight lines evaluated together: a number that depends on nothing, so that neither do the values.
LINES = 16

Runner = Callable[[Sequence[Job]], Iterable[Searched]]


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


def merge_tree(
    objective: Objective,
    points: Tensor | Sequence[Tensor | Mapping[str, Tensor]],
    *,
    judge: Objective | None = None,
    pairs: Literal["tree", "all", "chain"] = "tree",
    align: Literal["weights", "activations"] | None = None,
    search: Search | None = None,
    executor: Executor | None = None,
    obstructions: Sequence[Any] = (),
    names: Sequence[str] | None = None,
    close: float = 0.05,
    aim: float = 0.01,
    prove: Literal["auto", "always", "never"] = "auto",
    grid: int = 20,
    seed: int = 0,
    progress: ProgressMeter | None = None,
) -> MergeTree:
    """How K points hang together below every threshold, with the paths that witness it.

    Args:
        objective: gradients come from it.
        points: `(K, p)`, or K points `(p,)` or state dicts, K >= 1.
        judge: the loss whose level sets are meant; the objective itself by default.
        pairs: which are searched: those that the tree rests on, K - 1 where each search reaches its floor; all of them; or a "chain", each point and the
            next, as for the checkpoints of one training run.
        align: first put every point's units in the order that brings it closest to the others; see `dss.align`.
        search: of a pair: a finder, or a function from a `dss.Problem` to a path between its ends; by default a string that
            starts at the lowest level (`MinimaxString`). Its problem's threshold is where it may stop.
        executor: any `concurrent.futures.Executor`; searches are submitted to it. The result does not depend on it.
        obstructions: such as `dss.theory.bottleneck_obstruction` makes: walls between pairs are lower values.
        names: of the points; their numbers by default.
        close: a straight line within this share of its floor, the higher end's loss or a wall, is not searched.
        aim: a search stops within this share of the floor (or a thousandth of what the straight line rises above it).
        prove: "auto" tries to prove every path's maximum for as long as its search took (ten seconds at least).
        grid: intervals of the certificate's first grid on every segment.
        seed: of every random choice, together with the digests of a pair's points.
        progress: shown the searches.

    Raises:
        InputError: no points, points of other shapes, losses that are not finite, or unknown options.
        RuntimeError: a proved wall and a path contradict each other.
    """
    points = _stacked(objective, points, names)
    if align is not None:
        points = aligned(objective, points, by=align, seed=seed)
    judged = objective if judge is None else judge.calibrated_by(objective)
    options = SearchOptions(as_finder(search), grid, prove)
    other = None if judged is objective else judged
    with (progress or ProgressMeter()).stage("tree", "pairs") as meter:
        run = partial(_searched, objective, other, points, options, executor, meter)
        lines = straight_lines(judged, points, all_pairs(len(points)), grid=grid)
        return grow(
            judged, points, lines, run,
            pairs=pairs, obstructions=obstructions, names=names, goals=Goals(close, aim), prove=prove != "never", seed=seed,
        )  # fmt: skip


def grow(
    judge: Objective,
    points: Tensor,
    lines: Sequence[float],
    run: Runner,
    *,
    pairs: str = "tree",
    obstructions: Sequence[Any] = (),
    names: Sequence[str] | None = None,
    goals: Goals = Goals(),
    prove: bool = True,
    seed: int = 0,
) -> MergeTree:
    """The tree, once the straight lines are known: choose the pairs, let them be searched, put everything together.

    Args:
        judge: the loss of the tree.
        points: `(K, p)`.
        lines: the largest loss on the straight line of every pair, in the order of `all_pairs`.
        run: searches jobs, wherever it likes, and returns the results in any order.
        prove: whether straight lines that need no search are handed to `run` too, to be certified.
        pairs, obstructions, names, seed: see `merge_tree`.
    """
    if pairs not in PAIRS:
        raise InputError(f"pairs must be one of {', '.join(PAIRS)}, got {pairs!r}")
    names = tuple(str(i) for i in range(len(points))) if names is None else tuple(names)
    births = losses_at(judge, points, names)
    floors = _floors(judge, points, births, obstructions)
    straight = _symmetric(len(points), lines, births)
    straight = torch.maximum(straight, torch.maximum(births[:, None], births))
    tree = MergeTree(names, births, straight, floors, (), points)
    asked: set[Pair] = set()
    chosen = _first_pairs(straight, floors, pairs)
    while fresh := [pair for pair in chosen if pair not in asked]:
        jobs = _jobs(fresh, points, straight, floors, goals, prove, seed)
        found = {searched.pair: searched for searched in run(jobs)}
        tree = replace(tree, searches=tree.searches + tuple(found[job.pair] for job in jobs))
        asked.update(fresh)
        chosen = [] if pairs == "chain" else list(tree.paths)
    return tree


def all_pairs(count: int) -> list[Pair]:
    """(0, 1), (0, 2), ..., (K - 2, K - 1)."""
    return [(i, j) for i in range(count) for j in range(i + 1, count)]


def losses_at(judge: Objective, points: Tensor, names: Sequence[str]) -> Tensor:
    """The judged losses `(K,)` of the points, one at a time: how many others there are must not round them anew.

    Raises:
        InputError: a loss is not finite.
    """
    with torch.no_grad():
        losses = torch.cat([as_losses(judge(point[None])) for point in points])
    bad = [name for name, loss in zip(names, losses.tolist(), strict=True) if not isfinite(loss)]
    if bad:
        raise InputError(f"every point needs a finite loss ({judge.description}), but not so: {', '.join(bad)}")
    return losses


def straight_lines(judge: Objective, points: Tensor, pairs: Sequence[Pair], *, grid: int = 20) -> list[float]:
    """The largest loss seen inside the straight line of each pair, many lines at a time."""
    found: list[float] = []
    for start in range(0, len(pairs), LINES):
        ends = torch.stack([points[i] for pair in pairs[start : start + LINES] for i in pair])
        # One string through all ends in turn; every other segment is a line that is meant.
        peaks = sample_segments(judge, Path(ends), torch.arange(0, len(ends), 2), grid=grid)
        found += peaks.losses.tolist()
    return found


def pair_seed(seed: int, first: str, second: str) -> int:
    """A seed of a pair, from the digests of its points in any order."""
    text = "/".join([str(seed), *sorted([first, second])])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def _stacked(
    objective: Objective, points: Tensor | Sequence[Tensor | Mapping[str, Tensor]], names: Sequence[str] | None
) -> Tensor:
    """The points `(K, p)`, validated."""
    if len(points) == 0:
        raise InputError("a tree needs at least one point, got none")
    if names is not None and len(names) != len(points):
        raise InputError(f"every point needs one name, got {len(names)} names for {len(points)} points")
    called = [f"point {i}" for i in range(len(points))] if names is None else names
    rows = [_point(objective, point, name) for point, name in zip(points, called, strict=True)]
    for row, name in zip(rows, called, strict=True):
        if row.shape != rows[0].shape or row.dtype != rows[0].dtype or row.device != rows[0].device:
            raise InputError(
                f"all points must have one shape, dtype and device: {called[0]} is {tuple(rows[0].shape)} {rows[0].dtype} "
                f"{rows[0].device}, {name} is {tuple(row.shape)} {row.dtype} {row.device}; only one architecture has a tree"
            )
    return torch.stack(rows)


def _point(objective: Objective, point: Tensor | Mapping[str, Tensor], name: str) -> Tensor:
    if isinstance(point, Mapping):
        network = objective.unwrapped
        if not isinstance(network, NetworkObjective):
            raise InputError(f"{name} is a state dict, which only a network can read; give points (p,)")
        try:
            return network.space.flatten(point)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    if not isinstance(point, Tensor) or point.ndim != 1 or not point.is_floating_point() or not point.isfinite().all():
        got = f"{tuple(point.shape)} {point.dtype}" if isinstance(point, Tensor) else type(point).__name__
        raise InputError(f"points are finite floating-point tensors (p,), but {name} is {got}, or not finite")
    return point.detach()


def _floors(judge: Objective, points: Tensor, births: Tensor, obstructions: Sequence[Any]) -> Tensor:
    """Lower values `(K, K)`: the higher end's loss, and the highest wall."""
    floors = torch.maximum(births[:, None], births)
    foreign = [type(o).__name__ for o in obstructions if not hasattr(o, "between")]
    if foreign:
        raise InputError(f"obstructions must be such as dss.theory.bottleneck_obstruction makes, got {', '.join(foreign)}")
    for i, j in all_pairs(len(points)):
        for obstruction in obstructions:
            wall = obstruction.between(judge, points[i], points[j]).lower
            floors[i, j] = floors[j, i] = max(floors[i, j].item(), wall)
    return floors


def _symmetric(count: int, values: Sequence[float], diagonal: Tensor) -> Tensor:
    """`(K, K)` from the values of all pairs."""
    matrix = torch.zeros(count, count, dtype=torch.float64)
    first, second = torch.triu_indices(count, count, 1)
    matrix[first, second] = matrix[second, first] = torch.tensor(list(values), dtype=torch.float64)
    return matrix.diagonal_scatter(diagonal)


def _first_pairs(straight: Tensor, floors: Tensor, pairs: str) -> list[Pair]:
    """The pairs that are to be searched first, if they need it."""
    count = len(straight)
    if pairs == "all":
        return all_pairs(count)
    if pairs == "chain":
        return [(i, i + 1) for i in range(count - 1)]
    first, second = torch.triu_indices(count, count, 1)
    # Sorted by floors, and by straight lines where these are equal.
    order = straight[first, second].argsort(stable=True)
    order = order[floors[first, second][order].argsort(stable=True)]
    ranks = _symmetric(count, order.argsort().tolist(), straight.diagonal())
    return [edge.pair for edge in spanning_tree(ranks)]


def _jobs(
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


def _searched(
    objective: Objective,
    judge: Objective | None,
    points: Tensor,
    options: SearchOptions,
    executor: Executor | None,
    meter: ProgressMeter,
    jobs: Sequence[Job],
) -> Iterable[Searched]:
    """Search jobs here, or wherever the executor does."""
    work = partial(search_pair, objective, judge)
    asked = [(points[list(job.ends)], job, options) for job in jobs]
    if executor is None:
        waiting = (partial(work, *one) for one in asked)
    else:
        waiting = [executor.submit(work, *one).result for one in asked]
    for done, result in enumerate(waiting, 1):
        searched = result()
        meter.report(done, f"of {len(jobs)}: points {searched.pair[0]} and {searched.pair[1]} below {searched.upper:.4g}")
        yield searched
