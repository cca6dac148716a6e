"""`dss connect`: join two saved models below a threshold, recorded in a run folder that resumes."""

import argparse
import logging
import shutil
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch

from dss import ranks
from dss._connect import PROVE, conclude, first_step
from dss.base.errors import InputError
from dss.base.files import write_text
from dss.cli.arithmetic import Arithmetic, add_arithmetic
from dss.cli.config import as_toml
from dss.cli.deadline import asked, left, room_for_page, start
from dss.cli.ends import Ends, add_buffers, add_reading, load_ends, with_subset
from dss.cli.exits import YES
from dss.cli.finder_options import DESCENT_OPTIONS, FINDER_OPTIONS, LIMITS, add_search, make_finder, name_default
from dss.cli.judges import digests_of, facts_of
from dss.cli.printing import modulo_symmetry, print_outcome
from dss.cli.progress import meter
from dss.cli.show import complete_page, keep_losses
from dss.cli.thresholds import HELP, threshold
from dss.finders import FINDERS
from dss.finders.finder import Finder, Step
from dss.geodesic.shortening import check_room
from dss.objectives.network import NetworkObjective
from dss.problem import Problem
from dss.runs import QUESTION, SUMMARY, RunRecorder, Snapshot, check_free, load_run, resumed, writing
from dss.runs.layout import OPTIONS
from dss.symmetry import align
from dss.symmetry.alignment import METHODS
from dss.tasks import load_task, source_digest
from dss.theory import Wall, highest_wall

log = logging.getLogger(__name__)

# Where beads lie while a run with --beads-on-disk searches.
BEADS = ".beads"


def add(commands: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "connect",
        help="join two saved models below a threshold",
        description="Exit code 0: connected, 1: not connected (proved so only where the task has obstructions), 2: bad input.",
    )
    parser.add_argument(
        "start", type=Path, metavar="A", help="weights of one end: a file, a folder of save_pretrained, or either with :key"
    )
    parser.add_argument("end", type=Path, metavar="B", help="weights of the other end")
    parser.add_argument("--task", required=True, help="digits, quadratics, cubics, fashion, file.py:name or package.module:name")
    parser.add_argument("--threshold", type=threshold, required=True, metavar="L0", help=HELP)
    parser.add_argument("--out", type=Path, required=True, help="the run folder to write")
    parser.add_argument(
        "--finder",
        choices=FINDERS,
        help="the algorithm (default: bend; greedy for large networks, or where --margin, --alpha, --insertion, --schedule or --beads-on-disk is given; and a constructed path where that "
        "finds or proves nothing; fastest: the constructed path first)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of every random choice (default: %(default)s)")
    add_reading(parser)
    _add_judging(parser)
    add_search(parser.add_argument_group("search"))
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="go on with an interrupted run of the same question")
    existing.add_argument("--overwrite", action="store_true", help="replace a run in the folder")
    parser.set_defaults(run=run)


def _add_judging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--grid", "--points", type=int, default=20, help="intervals of the first grid on every segment (default: %(default)s)"
    )
    add_buffers(parser)
    parser.add_argument(
        "--prove", choices=PROVE, default="auto",
        help="rigorous bound for every point: for as long as the search took, without limit of time, or not (default: %(default)s)",
    )  # fmt: skip
    add_arithmetic(parser)
    parser.add_argument(
        "--align", choices=METHODS, help="join A to the reordered copy of B that is closest to it, by weights or activations"
    )
    parser.add_argument(
        "--beads-on-disk", action="store_true", help="keep beads in files of the run folder while searching, for large networks"
    )
    parser.add_argument("--shorten", action="store_true", help="pull the path tight inside its level set before it is certified")


def run(options: argparse.Namespace) -> int:
    """Search, certify, record; print the outcome. Under `torchrun` the search's evaluations are shared by all ranks."""
    start(options)
    options.record = as_toml(options)
    options.constructed = options.finder is None
    with ranks.joined(options.device) as several:
        if not several:
            return _run(options)
        if options.max_seconds is not None:
            raise InputError(
                "--max-seconds cannot be used on several ranks, whose clocks differ; give --max-rounds or --max-steps"
            )
        if options.beads_on_disk:
            raise InputError(
                "--beads-on-disk is for one process; of several ranks each holds its share of the beads: leave it out"
            )
        options.device = ranks.own_device(options.device)
        return _run(options) if ranks.is_first() else _help(options)


def _help(options: argparse.Namespace) -> int:
    """What the other ranks do: the same search, of which the first keeps the record, and nothing after it."""
    ends, objective, judge = _question_of(options)
    finder = ranks.spread_out(_finder_of(options, ends))
    if options.shorten:
        check_room(ends.start)
    problem = _problem(options, ends, objective, judge)
    if not ranks.from_first(None):
        last = ranks.dealt_out(finder, None)
        wall = highest_wall(ends.task.obstructions, problem.judge, problem.start, problem.end)
        if last is not None:
            problem.tally.restore(last.tally)
        sent = _sent(last)
        for step in _steps(problem, finder, last, wall):
            deque(ranks.fresh(step.path, sent, problem.start), maxlen=0)
        ranks.pooled(problem)
    return YES


def _run(options: argparse.Namespace) -> int:
    resuming = options.resume and (options.out / QUESTION).exists()
    if not resuming:
        check_free(options.out, overwrite=options.overwrite)
    ends, objective, judge = _question_of(options)
    finder = ranks.spread_out(_finder_of(options, ends))
    if options.shorten:
        check_room(ends.start)
    problem = _problem(options, ends, objective, judge)
    asked(options)
    question: dict = _question(options, ends, objective, judge) | {"threshold": problem.threshold}
    log.info("data: %s", ", ".join(f"{kind} {digest}" for kind, digest in question["data"].items()))
    with writing(options.out):
        if resuming:
            recorder, last = RunRecorder.resume(options.out, question)
        else:
            recorder, last = RunRecorder.start(options.out, question, buffers=ends.buffers, overwrite=options.overwrite), None
        write_text(options.out / OPTIONS, options.record)
        done = (options.out / SUMMARY).exists()
        if not ranks.from_first(done):
            last = ranks.dealt_out(finder, last)
            wall = highest_wall(ends.task.obstructions, problem.judge, problem.start, problem.end)
            _search(problem, finder, recorder, last, options, objective, question["data"], wall, ends.dtypes)
        complete_page(options.out, progress=meter(options), until=room_for_page(options), judged=(ends.task, objective, judge))
    return print_outcome(load_run(options.out), options)


def _finder_of(options: argparse.Namespace, ends: Ends) -> Finder:
    """The finder that was named, or the one that is taken for such ends."""
    if options.constructed:
        options.finder = name_default(options, ends.start.numel())
        log.info("finder %s, for none was named; a constructed path may take the place of what it does not find", options.finder)
    return make_finder(options)


def _question_of(options: argparse.Namespace) -> tuple[Ends, NetworkObjective, NetworkObjective]:
    """The ends, the training objective and the judge."""
    task = with_subset(load_task(options.task, draws=options.seed), options.only)
    ends = load_ends(options.start, options.end, task, Arithmetic.of(options), allow=options.allow)
    objective, judge = ends.task.objectives(buffers=options.buffers)
    return (ends if options.align is None else _aligned(ends, objective, options)), objective, judge


def _problem(options: argparse.Namespace, ends: Ends, objective: NetworkObjective, judge: NetworkObjective) -> Problem:
    """What is to be searched, with its evaluations shared by all ranks."""
    level = options.threshold(judge, ends.start, ends.end)
    gradients = ranks.shared(objective)
    judged = None if judge is objective else ranks.shared(judge)
    return Problem.of(gradients, ends.start, ends.end, threshold=level, judge=judged, seed=options.seed, adopt=True)


def _aligned(ends: Ends, objective: NetworkObjective, options: argparse.Namespace) -> Ends:
    """The ends with the second one's units in the order of the first one's.

    Raises:
        InputError: that makes them one and the same.
    """
    end = align(objective, ends.start, ends.end, by=options.align, seed=options.seed).point
    if torch.equal(end, ends.start):
        raise InputError(f"{options.end} is {options.start} with its units in another order: they are one network")
    return replace(ends, end=end)


def _question(options: argparse.Namespace, ends: Ends, objective: NetworkObjective, judge: NetworkObjective) -> dict:
    """What a run answers: with the same question it may be resumed."""
    own = ("task", "finder", "seed", "buffers", "prove", "align", "shorten", "device", "only", "dtype", "autocast")
    kept = (*own, *FINDER_OPTIONS, *DESCENT_OPTIONS, *LIMITS)
    return {
        **{name: getattr(options, name) for name in kept},
        **({"constructed": True} if options.constructed else {}),
        "points": options.grid,  # the name that run folders have had from the start
        "ends": [str(options.start), str(options.end)],
        "digests": ends.digests,
        "data": digests_of(objective, judge),
        "parameters": list(objective.space.names),
    }


def _search(
    problem: Problem,
    finder: Finder,
    recorder: RunRecorder,
    last: Snapshot | None,
    options: argparse.Namespace,
    objective: NetworkObjective,
    data: dict[str, str],
    wall: Wall | None,
    dtypes: dict[str, object],
) -> None:
    """Drive the search from where it stands, recording every step; then certify and write the outcome."""
    began, progress = time.monotonic(), meter(options)
    finder = finder.within(left(options, finder.limits))
    if last is not None:
        began -= last.seconds
        problem.tally.restore(last.tally)
    stored = _emptied(options.out / BEADS) if options.beads_on_disk else None
    # A search that had ended when it was killed has no further steps: its last is the one.
    step, sent = None if last is None else last.step.like(problem.start), _sent(last)
    with progress.stage(finder.name, "rounds") as shown:
        for step in resumed(_steps(problem, finder, last, wall), recorder.folder):
            for name, bead in ranks.fresh(step.path, sent, problem.start):
                recorder.keep({name: bead})
            recorder.record(step, problem.tally, time.monotonic() - began)
            if stored is not None:
                step.path.store(stored)
            shown.report(step.round, step.words(problem.threshold))
    assert step is not None, "a search that only begins has its first step"
    ranks.pooled(problem)
    if not step.path.whole:
        step = _gathered(recorder, step, problem)
    connection = conclude(
        ranks.alone(problem), _with_past(finder, last), step, shorten=options.shorten, grid=options.grid, prove=options.prove, began=began,
        progress=progress, wall=wall, constructed=options.constructed,
    )  # fmt: skip
    modulo = modulo_symmetry({"align": options.align})
    on_disk = {} if stored is None else {"beads_on_disk": True}
    keep_losses(options.out, connection, options.grid)
    recorder.finish(
        connection, objective.space, source=source_digest(options.task), task=options.task, data=data, dtypes=dtypes,
        **facts_of(objective), **modulo, **on_disk,
    )  # fmt: skip
    if stored is not None:
        shutil.rmtree(stored)


def _with_past(finder: Finder, last: Snapshot | None) -> Finder:
    """The finder whose seconds count from when an interrupted run began."""
    if last is None or finder.limits.seconds is None:
        return finder
    return finder.within(replace(finder.limits, seconds=finder.limits.seconds + last.seconds))


def _sent(last: Snapshot | None) -> set[str]:
    """The beads that the first rank has already."""
    return set() if last is None else set(last.path.digests)


def _gathered(recorder: RunRecorder, step: Step, problem: Problem) -> Step:
    """The step with all of its beads, from the run's folder: on the first of several ranks, which certifies alone."""
    recorded = recorder.latest()
    assert recorded is not None and recorded.path.digests == step.path.digests, "every step is recorded"
    return recorded.step.like(problem.start)


def _emptied(folder: Path) -> Path:
    """The folder, without what a run that was killed left in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _steps(problem: Problem, finder: Finder, last: Snapshot | None, wall: Wall | None) -> Iterator[Step]:
    """The search from where it stands; its first step too, if it only begins."""
    if last is not None:
        return finder.steps(problem, resume=last.step.like(problem.start))
    step = first_step(problem, finder, wall)
    return chain([step], finder.steps(problem, resume=step))
