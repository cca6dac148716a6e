"""From points to their merge tree: straight lines first, then a search of every pair that the tree rests on.

Which pairs? A search may bring a pair down to its floor, the higher end's loss; so first those of the tree that there would
be if all did: each point and the lower point to which its straight line is the lowest. Between wide networks that is all:
K - 1 searches, and no other path could lower the tree. Then the rule of AutoNEB (Draxler et al. 2018): whatever edge the tree
has now that was not searched and lies above its floor, until there is none.

Which pairs a round searches depends on the rounds before alone, never on which search ends first: so the tree does not
depend on how many workers there are.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.base.gradients import with_gradients
from dss.base.progress import ProgressMeter
from dss.objectives.objective import End, Objective
from dss.theory.obstruction import Obstruction, highest_wall
from dss.topology.closure import spanning_tree
from dss.topology.frame import aligned
from dss.topology.jobs import Goals, Job, jobs_of
from dss.topology.points import Pair, all_pairs, losses_at, stacked, straight_lines
from dss.topology.searching import Search, Searched, SearchOptions, as_finder, search_pair
from dss.topology.tree import MergeTree

PAIRS = ("tree", "all", "chain")

Runner = Callable[[Sequence[Job]], Iterable[Searched]]


@with_gradients()
def merge_tree(
    objective: Objective,
    points: Tensor | Sequence[End],
    *,
    judge: Objective | None = None,
    pairs: Literal["tree", "all", "chain"] = "tree",
    align: Literal["weights", "activations"] | None = None,
    search: Search | None = None,
    executor: Executor | None = None,
    obstructions: Sequence[Obstruction] = (),
    names: Sequence[str] | None = None,
    retries: int = 0,
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
        retries: how often another pair is searched across what stayed above its lower value (AutoNEB; Draxler et al. 2018).
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
    points = stacked(objective, points, names)
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
            pairs=pairs, obstructions=obstructions, names=names, retries=retries, goals=Goals(close, aim),
            prove=prove != "never", seed=seed,
        )  # fmt: skip


def grow(
    judge: Objective,
    points: Tensor,
    lines: Sequence[float],
    run: Runner,
    *,
    pairs: str = "tree",
    obstructions: Sequence[Obstruction] = (),
    names: Sequence[str] | None = None,
    retries: int = 0,
    goals: Goals | None = None,
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
        pairs, obstructions, names, retries, seed: see `merge_tree`.
    """
    if pairs not in PAIRS or retries < 0:
        raise InputError(f"pairs must be one of {', '.join(PAIRS)} and retries at least 0, got {pairs!r} and {retries}")
    names = tuple(str(i) for i in range(len(points))) if names is None else tuple(names)
    births = losses_at(judge, points, names)
    floors = _floors(judge, points, births, obstructions)
    straight = _symmetric(len(points), lines, births)
    straight = torch.maximum(straight, torch.maximum(births[:, None], births))
    tree, goals = MergeTree(names, births, straight, floors, (), points), goals or Goals()
    asked: set[Pair] = set()
    chosen = _first_pairs(straight, floors, pairs)
    while fresh := [pair for pair in chosen if pair not in asked]:
        jobs = jobs_of(fresh, points, straight, floors, goals, prove, seed)
        found = {searched.pair: searched for searched in run(jobs)}
        tree = replace(tree, searches=tree.searches + tuple(found[job.pair] for job in jobs))
        asked.update(fresh)
        chosen = [] if pairs == "chain" else list(tree.paths)
        if asked.issuperset(chosen) and retries > 0:
            retries, chosen = retries - 1, _alternatives(tree, asked, goals)
    return tree


def _floors(judge: Objective, points: Tensor, births: Tensor, obstructions: Sequence[Obstruction]) -> Tensor:
    """Lower values `(K, K)`: the higher end's loss, and the highest wall."""
    floors = torch.maximum(births[:, None], births)
    for i, j in all_pairs(len(points)) if obstructions else ():
        wall = highest_wall(obstructions, judge, points[i], points[j])
        if wall is not None:
            floors[i, j] = floors[j, i] = max(floors[i, j].item(), wall.lower)
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


def _alternatives(tree: MergeTree, asked: set[Pair], goals: Goals) -> list[Pair]:
    """For each merge that stayed above its lower value another pair across it, the most promising one not searched yet."""
    chosen: dict[Pair, None] = {}
    for merge in tree.merges:
        if goals.is_close(merge.lower, merge.height):
            continue
        across = ((min(i, j), max(i, j)) for i in merge.first for j in merge.second)
        left = [pair for pair in across if pair not in asked and pair not in chosen]
        if left:
            chosen[min(left, key=lambda pair: (tree.lower[pair].item(), tree.straight[pair].item(), pair))] = None
    return list(chosen)


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
