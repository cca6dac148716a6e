"""`dss connect`: join two saved models below a threshold, recorded in a run folder that resumes."""

import argparse
import time
from dataclasses import fields, replace
from functools import partial
from itertools import chain
from pathlib import Path

import torch

from dss._connect import PROVE, conclude, first_step
from dss.base.errors import InputError
from dss.cli.ends import Ends, load_ends
from dss.cli.judges import digests_of, facts_of
from dss.cli.printing import modulo_symmetry, print_outcome
from dss.cli.progress import add_quiet, meter
from dss.cli.show import write_page
from dss.cli.thresholds import HELP, threshold
from dss.finders import FINDERS
from dss.finders.descent import Descent
from dss.finders.finder import Finder, Limits
from dss.objectives.network import NetworkObjective
from dss.problem import Problem
from dss.runs import QUESTION, SUMMARY, RunRecorder, Snapshot, check_free, load_run
from dss.symmetry import align
from dss.symmetry.alignment import METHODS
from dss.tasks import load_task
from dss.theory import Wall, highest_wall

# Options that only some finders have; None leaves the finder its own default.
FINDER_OPTIONS = ("insertion", "schedule", "alpha", "margin")
DESCENT_OPTIONS = ("lr", "bead_steps")
# What is taken where no finder is named; a constructed path may then take the place of what it did not find or prove.
DEFAULT_FINDER = "bend"
# Limits by their flag.
LIMITS = {
    "max_rounds": "rounds", "max_beads": "beads", "max_steps": "gradient_steps", "max_evaluations": "evaluations", "max_seconds": "seconds",
}  # fmt: skip


def add(commands: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "connect",
        help="join two saved models below a threshold",
        description="Exit code 0: connected, 1: not connected (proved so only where the task has obstructions), 2: bad input.",
    )
    parser.add_argument("start", type=Path, metavar="A", help="weights of one end: .pt, .pth, .ckpt, .bin or .safetensors")
    parser.add_argument("end", type=Path, metavar="B", help="weights of the other end")
    parser.add_argument("--task", required=True, help="digits, quadratics, cubics, fashion, file.py:name or package.module:name")
    parser.add_argument("--threshold", type=threshold, required=True, metavar="L0", help=HELP)
    parser.add_argument("--out", type=Path, required=True, help="the run folder to write")
    parser.add_argument(
        "--finder",
        choices=FINDERS,
        help="the algorithm (default: bend, and a constructed path where that finds or proves nothing)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of every random choice (default: %(default)s)")
    _add_judging(parser)
    _add_search(parser.add_argument_group("search"))
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="go on with an interrupted run of the same question")
    existing.add_argument("--overwrite", action="store_true", help="replace a run in the folder")
    parser.add_argument("--json", action="store_true", help="print the summary alone, as JSON")
    add_quiet(parser)
    parser.set_defaults(run=run)


def _add_judging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--grid", "--points", type=int, default=20, help="intervals of the first grid on every segment (default: %(default)s)"
    )
    parser.add_argument(
        "--buffers", choices=("recalibrate", "frozen"), default="recalibrate",
        help="BatchNorm's running statistics: recomputed for every point, or frozen at A's (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--prove", choices=PROVE, default="auto",
        help="rigorous bound for every point: for as long as the search took, without limit of time, or not (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--device", default="cpu", help="where to compute (default: %(default)s)")
    parser.add_argument(
        "--align", choices=METHODS, help="join A to the reordered copy of B that is closest to it, by weights or activations"
    )
    parser.add_argument("--shorten", action="store_true", help="pull the path tight inside its level set before it is certified")


def _add_search(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--insertion", choices=("midpoint", "argmax"), help="where a new bead starts")
    group.add_argument("--schedule", choices=("breadth", "depth"), help="beads of a round together, or one after the other")
    group.add_argument("--alpha", type=float, help="a bead's target is alpha times the threshold")
    group.add_argument("--margin", type=float, help="a bead's target is the threshold less this")
    group.add_argument("--lr", type=float, help="Adam's rate for beads (default: 1e-3)")
    group.add_argument("--bead-steps", type=int, help="steps after which a bead has failed (default: 5000)")
    group.add_argument("--max-rounds", type=int, help="rounds of the search (default: 40)")
    group.add_argument("--max-beads", type=int, help="intermediate beads (default: 200)")
    group.add_argument("--max-steps", type=int, help="gradient steps of all beads together")
    group.add_argument("--max-evaluations", type=int, help="judged losses of single points")
    group.add_argument("--max-seconds", type=float, help="of search, shortening and proof together; gives up reproducibility")


def run(options: argparse.Namespace) -> int:
    """Search, certify, record; print the outcome."""
    resuming = options.resume and (options.out / QUESTION).exists()
    if not resuming:
        check_free(options.out, overwrite=options.overwrite)
    options.constructed = options.finder is None
    options.finder = options.finder or DEFAULT_FINDER
    finder = make_finder(options)
    ends = load_ends(options.start, options.end, load_task(options.task, draws=options.seed), options.device)
    objective, judge = ends.task.objectives(buffers=options.buffers)
    if options.align is not None:
        ends = _aligned(ends, objective, options)
    judged = None if judge is objective else judge
    level = options.threshold(judge, ends.start, ends.end)
    problem = Problem.of(objective, ends.start, ends.end, threshold=level, judge=judged, seed=options.seed)
    question = _question(options, ends, objective, judge) | {"threshold": level}
    if resuming:
        recorder, last = RunRecorder.resume(options.out, question)
    else:
        recorder, last = RunRecorder.start(options.out, question, buffers=ends.buffers, overwrite=options.overwrite), None
    if not (options.out / SUMMARY).exists():
        wall = highest_wall(ends.task.obstructions, problem.judge, problem.start, problem.end)
        _search(problem, finder, recorder, last, options, objective, question["data"], wall)
        write_page(load_run(options.out), progress=meter(options))
    return print_outcome(load_run(options.out), as_json=options.json)


def _aligned(ends: Ends, objective: NetworkObjective, options: argparse.Namespace) -> Ends:
    """The ends with the second one's units in the order of the first one's.

    Raises:
        InputError: that makes them one and the same.
    """
    end = align(objective, ends.start, ends.end, by=options.align, seed=options.seed).point
    if torch.equal(end, ends.start):
        raise InputError(f"{options.end} is {options.start} with its units in another order: they are one network")
    return replace(ends, end=end)


def make_finder(options: argparse.Namespace) -> Finder:
    """The finder that the options describe.

    Raises:
        InputError: an option that this finder does not have.
    """
    kind = FINDERS[options.finder]
    known = {field.name for field in fields(kind)}
    given = {name: value for name in FINDER_OPTIONS if (value := getattr(options, name)) is not None}
    descent = {name: value for name in DESCENT_OPTIONS if (value := getattr(options, name)) is not None}
    foreign = sorted(given.keys() - known) + sorted(descent if "descent" not in known else ())
    if foreign:
        flags = ", ".join("--" + name.replace("_", "-") for name in foreign)
        raise InputError(f"the finder {options.finder} has no {flags}; leave it out, or choose another finder")
    limits = {field: value for name, field in LIMITS.items() if (value := getattr(options, name)) is not None}
    if "grid" in known:
        given["grid"] = options.grid
    if descent:
        given["descent"] = _descent(**descent)
    return kind(**given, limits=Limits(**limits))


def _descent(lr: float | None = None, bead_steps: int | None = None) -> Descent:
    descent = Descent() if lr is None else Descent(optimizer=partial(torch.optim.Adam, lr=lr))
    return descent if bead_steps is None else replace(descent, max_steps=bead_steps)


def _question(options: argparse.Namespace, ends: Ends, objective: NetworkObjective, judge: NetworkObjective) -> dict:
    """What a run answers: with the same question it may be resumed."""
    kept = (
        "task",
        "finder",
        "seed",
        "buffers",
        "prove",
        "align",
        "shorten",
        "device",
        *FINDER_OPTIONS,
        *DESCENT_OPTIONS,
        *LIMITS,
    )
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
) -> None:
    """Drive the search from where it stands, recording every step; then certify and write the outcome."""
    began, progress = time.monotonic(), meter(options)
    if last is None:
        step = first_step(problem, finder, wall)
        steps = chain([step], finder.steps(problem, resume=step))
    else:
        began, step, steps = began - last.seconds, last.step, finder.steps(problem, resume=last.step)
        problem.tally.restore(last.tally)
    with progress.stage(finder.name, "rounds") as shown:
        for step in steps:
            recorder.record(step, problem.tally, time.monotonic() - began)
            shown.report(step.round, step.words(problem.threshold))
    connection = conclude(
        problem, finder, step, shorten=options.shorten, grid=options.grid, prove=options.prove, began=began, progress=progress,
        wall=wall, constructed=options.constructed,
    )  # fmt: skip
    modulo = modulo_symmetry({"align": options.align})
    recorder.finish(connection, objective.space, task=options.task, data=data, **facts_of(objective), **modulo)
