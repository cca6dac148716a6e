"""`dss shorten`: pull the path of a run tight inside its level set."""

import argparse
import time
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path as FilePath

from dss._connect import PROVE, conclude
from dss.base.errors import RunError
from dss.base.limits import Limits, Status
from dss.base.path import Path
from dss.cli.judges import facts_of, problem_of
from dss.cli.printing import modulo_symmetry, print_outcome
from dss.cli.progress import add_quiet, meter
from dss.cli.show import write_page
from dss.cli.workers import add_workers, executor_of
from dss.finders import FINDERS
from dss.finders.finder import Step
from dss.geodesic.shortening import Shortening
from dss.problem import Problem
from dss.runs import RunRecorder, check_free, load_run


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
    parser.add_argument("--overwrite", action="store_true", help="replace a run in the new folder")
    parser.add_argument("--json", action="store_true", help="print the summary alone, as JSON")
    parser.add_argument("--max-seconds", type=float, help="of shortening and proof together; the shortest string so far is kept")
    add_workers(parser.add_argument_group("where the starts are pulled tight"))
    add_quiet(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """A new run folder with the shortened path; the old one stays as it is."""
    folder = options.out or options.folder.with_name(options.folder.resolve().name + "-short")
    check_free(folder, overwrite=options.overwrite)
    found = load_run(options.folder)
    if found.summary is None or not found.summary["connected"]:
        raise RunError(f"{options.folder} holds no connected path; only a path below its threshold can be shortened")
    problem, objective, data = problem_of(found, found.path)
    *_, last = found.history
    began = time.monotonic()
    starts = [load_run(other).path for other in options.others]
    finder = FINDERS[found.question["finder"]](limits=Limits(seconds=options.max_seconds))
    with executor_of(options) as executor:
        connection = conclude(
            problem, finder, _found(last.step, found.path), shorten=Shortening(n_starts=options.starts),
            grid=found.question["points"], prove=options.prove, began=began, starts=starts, progress=meter(options),
            executor=executor, source=partial(problem_in, str(options.folder.resolve())),
        )  # fmt: skip
    question = {key: value for key, value in found.question.items() if key != "format"} | {"data": data}
    recorder = RunRecorder.start(
        folder, question | {"shortened_from": str(options.folder)}, buffers=found.buffers, overwrite=options.overwrite
    )
    for path in (found.path, connection.path):
        recorder.record(_found(last.step, path), problem.tally, time.monotonic() - began)
    recorder.finish(
        connection, objective.space, task=found.question["task"], data=data, **facts_of(objective),
        **modulo_symmetry(found.question),
    )  # fmt: skip
    write_page(load_run(folder), progress=meter(options))
    return print_outcome(load_run(folder), as_json=options.json)


@lru_cache(maxsize=1)
def problem_in(folder: str) -> Problem:
    """The question of a run folder, kept by a worker from start to start."""
    run = load_run(folder)
    problem, *_ = problem_of(run, run.path)
    return problem


def _found(step: Step, path: Path) -> Step:
    """The search's last step with this path, whose segments were not judged one by one."""
    return replace(step, path=path, maxima=Step.unjudged(path).maxima, status=Status.FOUND)
