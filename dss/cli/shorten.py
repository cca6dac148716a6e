"""`dss shorten`: pull the path of a run tight inside its level set."""

import argparse
import time
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path as FilePath

from dss._connect import PROVE, conclude
from dss._connection import Connection
from dss.base.errors import RunError
from dss.base.files import write_text
from dss.base.iteration import last
from dss.base.limits import Limits, Status
from dss.base.path import Path
from dss.base.quoting import shown
from dss.cli.config import as_toml
from dss.cli.deadline import asked, left, room_for_page, start
from dss.cli.judges import facts_of, problem_of
from dss.cli.printing import modulo_symmetry, print_outcome
from dss.cli.progress import meter
from dss.cli.show import complete_page, keep_losses
from dss.cli.workers import add_workers, executor_of
from dss.finders import FINDERS
from dss.finders.finder import Finder, Step
from dss.geodesic.shortening import Shortening
from dss.objectives.network import NetworkObjective
from dss.problem import Problem
from dss.runs import QUESTION, STEPS, SUMMARY, Run, RunRecorder, check_free, load_question, load_run, writing
from dss.runs.layout import OPTIONS
from dss.tasks import source_digest
from dss.topology.minimax import MinimaxString


def add(commands: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = commands.add_parser("shorten", help="pull the path of a run tight inside its level set")
    parser.add_argument("folder", type=FilePath, metavar="RUN", help="a run folder whose path is connected")
    parser.add_argument("--out", type=FilePath, help="the new run folder (default: RUN-short beside it)")
    parser.add_argument(
        "--starts", type=int, default=1, help="the path itself, the straight line, bent copies; the shortest result is kept"
    )
    parser.add_argument(
        "--from",
        type=FilePath,
        nargs="+",
        default=[],
        metavar="RUN",
        dest="others",
        help="other runs between the same ends, whose paths are starts too",
    )
    parser.add_argument("--prove", choices=PROVE, default="auto", help="as for dss connect (default: %(default)s)")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="finish an interrupted shortening of the same run")
    existing.add_argument("--overwrite", action="store_true", help="replace a run in the new folder")
    parser.add_argument("--max-seconds", type=float, help="of shortening and proof together; the shortest string so far is kept")
    add_workers(parser.add_argument_group("where the starts are pulled tight"))
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """A new run folder with the shortened path; the old one stays as it is."""
    start(options)
    asked(options)
    options.record = as_toml(options)
    folder = options.out or options.folder.with_name(options.folder.resolve().name + "-short")
    resuming = options.resume and (folder / QUESTION).exists()
    if resuming:
        _check_same(folder, options)
    else:
        check_free(folder, overwrite=options.overwrite)
    found = load_run(options.folder)
    if not found.outcome["connected"]:
        raise RunError(f"{options.folder} holds no connected path; only a path below its threshold can be shortened")
    if not (resuming and (folder / SUMMARY).exists()):
        _shorten(found, folder, options, overwrite=options.overwrite or resuming)
    with writing(folder):
        complete_page(folder, progress=meter(options), until=room_for_page(options))
    return print_outcome(load_run(folder), options)


def _check_same(folder: FilePath, options: argparse.Namespace) -> None:
    """What is in the folder must be a shortening of this run."""
    before = load_question(folder)
    if {name: before.get(name) for name in _asked(options)} != _asked(options):
        raise RunError(f"{folder} holds no shortening of {options.folder} with these options; give the same, or another --out")


def _asked(options: argparse.Namespace) -> dict[str, object]:
    """What a shortening answers, beside what its run did."""
    return {
        "shortened_from": str(options.folder),
        "starts": options.starts,
        "from": [str(other) for other in options.others],
        "prove": options.prove,
    }


def _shorten(found: Run, folder: FilePath, options: argparse.Namespace, *, overwrite: bool) -> None:
    """Shorten; only then write: until there is a new path, an earlier run in the folder stays."""
    problem, objective, data = problem_of(found, found.path)
    asked(options)
    recorded = last(found.history)
    if recorded is None:
        raise RunError(
            f"{found.folder} has no recorded steps; its {STEPS} is missing: restore it from a copy, or make the run anew"
        )
    began = time.monotonic()
    starts = [_string(other) for other in options.others]
    finder = _finder(found).within(left(options, Limits(seconds=options.max_seconds)))
    with executor_of(options) as executor:
        connection = conclude(
            problem, finder, _found(recorded.step, found.path), shorten=Shortening(n_starts=options.starts),
            grid=found.question["points"], prove=options.prove, began=began, starts=starts, progress=meter(options),
            executor=executor, source=partial(problem_in, str(options.folder.resolve())),
        )  # fmt: skip
    steps = [_found(recorded.step, path) for path in (found.path, connection.path)]
    with writing(folder):
        _record(found, folder, problem, objective, data, connection, steps, time.monotonic() - began, _asked(options), overwrite)
        write_text(folder / OPTIONS, options.record)


def _string(folder: FilePath) -> Path:
    """The path of another run, finished or not."""
    other = load_run(folder)
    if other.summary is not None:
        _ = other.outcome  # whose path is the one that was certified
    return other.path


def _finder(run: Run) -> Finder:
    """The finder of a run, or what looked for it in a tree.

    Raises:
        RunError: there is none of that name.
    """
    kinds = {**FINDERS, MinimaxString.name: MinimaxString}
    if run.question["finder"] not in kinds:
        raise RunError(
            f"{run.folder} names a finder that is not known: {shown(run.question['finder'])}; there are {', '.join(kinds)}"
        )
    return kinds[run.question["finder"]]()


def _record(
    found: Run,
    folder: FilePath,
    problem: Problem,
    objective: NetworkObjective,
    data: dict[str, str],
    connection: Connection,
    steps: list[Step],
    seconds: float,
    asked: dict[str, object],
    overwrite: bool,
) -> None:
    """The run folder of a shortening: its question, the path before and after, the outcome."""
    question = {key: value for key, value in found.question.items() if key != "format"} | {"data": data}
    recorder = RunRecorder.start(folder, question | asked, buffers=found.buffers, overwrite=overwrite)
    for step in steps:
        recorder.record(step, problem.tally, seconds)
    task = found.question["task"]
    keep_losses(folder, connection, found.question["points"])
    recorder.finish(
        connection, objective.space, source=source_digest(task), task=task, data=data, **facts_of(objective),
        **modulo_symmetry(found.question),
    )  # fmt: skip


@lru_cache(maxsize=1)
def problem_in(folder: str) -> Problem:
    """The question of a run folder, kept by a worker from start to start."""
    run = load_run(folder)
    problem, *_ = problem_of(run, run.path)
    return problem


def _found(step: Step, path: Path) -> Step:
    """The search's last step with this path, whose segments were not judged one by one."""
    return replace(step, path=path, maxima=Step.unjudged(path).maxima, status=Status.FOUND)
