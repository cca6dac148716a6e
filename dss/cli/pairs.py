"""What a worker does for `dss tree`: the straight lines of some pairs, or the ordinary, resumable run of one.

Tasks carry names of files and digests of what is in them, never tensors: a worker in another process or on another machine
reads the files itself, and keeps the model and its data for the next task.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from dss.adapters import load_checkpoint
from dss.base.digest import digest
from dss.base.errors import CheckpointError, RunError
from dss.cli.arithmetic import Arithmetic
from dss.cli.ends import Ends, load_ends, with_subset
from dss.cli.judges import digests_of, facts_of
from dss.cli.show import complete_page
from dss.finders import FINDERS, StraightLine
from dss.finders.finder import Finder
from dss.objectives.network import NetworkObjective
from dss.problem import Problem
from dss.runs import QUESTION, SUMMARY, Run, RunRecorder, load_question, resumed, writing
from dss.tasks import load_task, source_digest
from dss.topology.jobs import Job
from dss.topology.minimax import MinimaxString
from dss.topology.points import straight_lines
from dss.topology.searching import Searched, conclude_at_maximum

# The search of a pair by its name on the command line.
LOWEST = MinimaxString.name


@dataclass(frozen=True)
class Setting:
    """What all tasks of a tree share.

    Attributes:
        task: its name, a file's in full.
        reference: the checkpoint whose buffers and frozen parameters all pairs are judged with.
        dtype: of the points, such as "float32".
        seed: of what the data draws at random.
        finder, grid, prove, buffers, device, autocast: as for `dss connect`.
        pages: whether every run gets its page.
        only, allow: which parameters move, and what pickles may hold besides.
    """

    task: str
    reference: str
    dtype: str
    seed: int
    finder: str
    grid: int
    prove: Literal["auto", "always", "never"]
    buffers: Literal["recalibrate", "frozen"]
    device: str
    autocast: str | None = None
    pages: bool = True
    only: str | None = None
    allow: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stored:
    """A point as a file, and the digest of what was in it."""

    file: str
    digest: str


@dataclass(frozen=True, eq=False)
class Loaded:
    """What a worker keeps from task to task."""

    ends: Ends
    objective: NetworkObjective
    judge: NetworkObjective

    @property
    def other_judge(self) -> NetworkObjective | None:
        """The judge, if it is not the objective itself."""
        return None if self.judge is self.objective else self.judge


@lru_cache(maxsize=1)
def loaded(setting: Setting) -> Loaded:
    """The task of a setting with the reference's buffers, its data read."""
    task = with_subset(load_task(setting.task, draws=setting.seed), setting.only)
    arithmetic, file = Arithmetic.named(setting.device, setting.dtype, setting.autocast), Path(setting.reference)
    ends = load_ends(file, file, task, arithmetic, allow=setting.allow)
    return Loaded(ends, *ends.task.objectives(buffers=setting.buffers))


def point_of(setting: Setting, stored: Stored) -> Tensor:
    """The point `(p,)` in a file.

    Raises:
        CheckpointError: it is not the one that the tree began with.
    """
    point = load_checkpoint(stored.file, loaded(setting).objective.space, adopt=True, allow=setting.allow).point
    point = point.to(setting.device, getattr(torch, setting.dtype))
    if digest(point) != stored.digest:
        raise CheckpointError(f"{stored.file} changed while its tree was growing; run dss tree again")
    return point


def run_lines(setting: Setting, stored: Sequence[Stored], pairs: Sequence[tuple[int, int]]) -> list[float]:
    """The largest loss on the straight line of some pairs of stored points."""
    points = torch.stack([point_of(setting, one) for one in stored])
    return straight_lines(loaded(setting).judge, points, pairs, grid=setting.grid)


def run_pair(setting: Setting, ends: tuple[Stored, Stored], job: Job, folder: str) -> str:
    """Search one pair, recorded in a run folder that is gone on with if it is there; returns the folder.

    Args:
        ends: in the order of `job.ends`.
    """
    place, kept = Path(folder), loaded(setting)
    start, end = (point_of(setting, one) for one in ends)
    problem = Problem.of(kept.objective, start, end, threshold=job.goal, judge=kept.other_judge, seed=job.seed)
    question = _question(setting, ends, job, kept)
    with writing(place):
        if (place / QUESTION).exists():
            question["threshold"] = _settled_threshold(place, job.goal)
            recorder, last = RunRecorder.resume(place, question)
        else:
            recorder, last = RunRecorder.start(place, question, buffers=kept.ends.buffers), None
        if not (place / SUMMARY).exists():
            _search(setting, kept, problem, recorder, last, job, question)
        if setting.pages:
            complete_page(place)
    return folder


def searched_of(run: Run, job: Job) -> Searched:
    """What a finished run says of its pair."""
    s = run.outcome
    path = type(run.path)(run.path.rows[::-1]) if job.reverse else run.path
    return Searched(
        pair=job.pair,
        path=path,
        seen=float(s["max_loss"]),
        upper=float(s["upper_bound"] if s["proven"] else s["max_loss"]),
        proven=s["proven"],
        goal=job.goal,
        reason=s["reason"],
        finder=s["finder"],
        seconds=s["seconds"],
        loss_evaluations=s["loss_evaluations"],
        gradient_evaluations=s["gradient_evaluations"],
        run=str(run.folder),
    )


def finder_named(name: str, grid: int) -> Finder:
    """The search of a pair: the lowest string, with the finder that was named in the place of its own."""
    if name == LOWEST:
        return MinimaxString(grid=grid)
    return MinimaxString(finders=(FINDERS[name](),), grid=grid)


def _question(setting: Setting, ends: tuple[Stored, Stored], job: Job, kept: Loaded) -> dict:
    """What the run answers. Its threshold is where the search may stop, until the search has found how low it gets."""
    shared = {
        name: value for name, value in asdict(setting).items() if name not in ("reference", "dtype", "grid", "pages", "allow")
    }
    return {
        **shared,
        "finder": StraightLine.name if job.line else setting.finder,
        "threshold": job.goal,
        "goal": job.goal,
        "search_seed": job.seed,
        "points": setting.grid,  # the name that run folders have had from the start
        "ends": [one.file for one in ends],
        "digests": [one.digest for one in ends],
        "data": digests_of(kept.objective, kept.judge),
        "parameters": list(kept.objective.space.names),
    }


def _settled_threshold(folder: Path, goal: float) -> float:
    """The threshold that a run folder names: the goal's own, or the one that its search has led to."""
    question = load_question(folder)
    if question.get("goal") != goal:
        raise RunError(
            f"{folder} holds a run with another goal; grow the tree with the options it began with, or give another --out"
        )
    return question["threshold"]


def _search(setting, kept: Loaded, problem: Problem, recorder: RunRecorder, last, job: Job, question: dict) -> None:
    """Drive the search from where it stands, certify its path at its own maximum, and write that down as the threshold."""
    finder = StraightLine(grid=setting.grid) if job.line else finder_named(setting.finder, setting.grid)
    began, step = time.monotonic(), finder.begin(problem)
    if last is not None:
        began, step = began - last.seconds, last.step.like(problem.start)
        problem.tally.restore(last.tally)
    steps = finder.steps(problem, resume=None if last is None else step)
    for following in steps if last is None else resumed(steps, recorder.folder):
        step = following
        recorder.record(step, problem.tally, time.monotonic() - began)
    found = conclude_at_maximum(problem, finder, step, grid=setting.grid, prove=setting.prove, began=began)
    recorder.settle(threshold=found.problem.threshold)
    recorder.finish(
        found, kept.objective.space, source=source_digest(setting.task), task=setting.task, data=question["data"],
        **facts_of(kept.objective),
    )  # fmt: skip
