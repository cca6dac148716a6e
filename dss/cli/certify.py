"""`dss certify`: prove or bracket the loss along a path found earlier, by this program or any other."""

import argparse
import math
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path as FilePath

import torch

from dss.base.errors import InputError
from dss.base.limits import Limits, Spent, Status
from dss.base.path import Path
from dss.base.rounded import above, below
from dss.certificates.bracket import Bracket
from dss.certificates.certificate import Certificate, certify
from dss.certificates.closing import bracket as close_in
from dss.cli.answers import answer
from dss.cli.deadline import asked, left, room_for_page, start, timed
from dss.cli.ends import with_subset
from dss.cli.exits import NO
from dss.cli.judges import objectives_of
from dss.cli.progress import meter
from dss.cli.show import complete_page
from dss.cli.thresholds import threshold
from dss.cli.workers import absolute, add_workers, executor_of
from dss.objectives.network import NetworkObjective
from dss.runs import REPORT, Run, load_path, load_run, record_certificate, writing
from dss.tasks import load_task, source_digest


def add(commands: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "certify", help="prove or bracket the loss along a path found earlier",
        description="Exit code 0: the loss stays at or below the threshold (or was bracketed), 1: it does not, or a limit was hit.",
    )  # fmt: skip
    parser.add_argument(
        "run_or_path",
        type=FilePath,
        metavar="RUN",
        help="a run folder, or any .safetensors with one entry (n_beads, *shape) a parameter",
    )
    parser.add_argument("--task", help="of a path file; a run folder knows its own")
    parser.add_argument("--only", metavar="PATTERN", help="the parameters that a path file moves; a run folder knows its own")
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument(
        "--threshold", type=threshold, metavar="L0",
        help="to prove; 1.1x is 1.1 times the higher end's loss (default: the run's own; its folder then records the outcome)",
    )  # fmt: skip
    goal.add_argument("--tolerance", type=float, help="bracket the largest loss to this share of it instead, such as 1e-3")
    parser.add_argument("--max-cells", type=int, default=100_000, help="limit of the proof (default: %(default)s)")
    parser.add_argument("--max-seconds", type=float, help="of the whole command; nothing is evaluated after them")
    parser.add_argument(
        "--grid", "--points", type=int, default=20,
        help="intervals of the sampled grid, where there is no proof (default: %(default)s)",
    )  # fmt: skip
    add_workers(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Bracket for a tolerance, else certify at a threshold."""
    start(options)
    path, judge, found = _subject(options)
    asked(options)
    own = None if found is None else found.question["threshold"]
    if options.tolerance is not None:
        return _bracket(options, path, judge)
    chosen = own if options.threshold is None else options.threshold(judge, path.rows[0], path.rows[-1])
    if chosen is None:
        raise InputError("a path file has no threshold of its own; give --threshold or --tolerance")
    with executor_of(options) as executor:
        certificate = _certificate(judge, path, chosen, options, executor)
    if certificate is None:
        reason = f"{Status.SECONDS.sentence}, before every segment was sampled"
        answer(options, {"threshold": chosen, "passed": False, "proven": False, "reason": reason}, f"NOT certified: {reason}")
        return NO
    if found is not None and chosen == own:
        _record(found, certificate, options)
    answer(options, _figures(certificate), f"{'passed' if certificate.passed else 'NOT passed'}: {certificate.reason}")
    return 0 if certificate.passed else 1


def _certificate(
    judge: NetworkObjective, path: Path, threshold: float, options: argparse.Namespace, executor: Executor | None
) -> Certificate | None:
    """The certificate; None where the time was up before there was one. With a limit in seconds samples come first: a proof that
    ends without a verdict would leave them no time."""
    ask = partial(certify, path=path, threshold=threshold, grid=options.grid)
    prove = partial(ask, prove=True, progress=meter(options), executor=executor, source=_source(options))
    if options.max_seconds is None:
        return prove(judge, limits=_limits(options))
    try:
        sampled = ask(timed(judge, options))
    except Spent:
        return None
    if not sampled.passed:
        return sampled
    try:
        return prove(timed(judge, options), limits=_limits(options))
    except Spent as spent:
        return replace(sampled, reason=f"{sampled.reason} (no proof: {spent.status.sentence})")


def _subject(options: argparse.Namespace) -> tuple[Path, NetworkObjective, Run | None]:
    """The path, what judges it, and the finished run that it is of."""
    if options.run_or_path.is_file():
        if options.task is None:
            raise InputError("a path file needs --task: it does not say which model and data judge it")
        judge = judge_of_task(options.task, options.only)
        return load_path(options.run_or_path, judge.space), judge, None
    if options.task is not None or options.only is not None:
        raise InputError("a run folder knows its own task and subset; leave --task and --only out")
    found = load_run(options.run_or_path)
    _ = found.ended
    if found.changes:
        print(f"dss: {' and '.join(found.changes)} changed after the certificate; what is there now is judged", file=sys.stderr)
    return found.path, objectives_of(found)[1], found


def judge_of_task(task: str, only: str | None) -> NetworkObjective:
    """What judges a path file, made anew by every worker."""
    return with_subset(load_task(task), only).objectives(buffers="frozen")[1]


def judge_of_run(folder: str) -> NetworkObjective:
    """What judges a run, made anew by every worker."""
    return objectives_of(load_run(FilePath(folder)))[1]


def _source(options: argparse.Namespace) -> Callable[[], NetworkObjective]:
    """The judge in another process."""
    if options.run_or_path.is_file():
        return partial(judge_of_task, absolute(options.task), options.only)
    return partial(judge_of_run, str(options.run_or_path.resolve()))


def _record(found: Run, certificate: Certificate, options: argparse.Namespace) -> None:
    """The certificate in its run's folder; last of all the page, if there is one, says it too."""
    with writing(found.folder):
        drawn = (found.folder / REPORT).exists()
        record_certificate(found, certificate, source=source_digest(found.question["task"]))
        if drawn:
            complete_page(found.folder, progress=meter(options), until=room_for_page(options))


def _bracket(options: argparse.Namespace, path: Path, judge: NetworkObjective) -> int:
    """Close in on the largest loss from both sides."""
    with executor_of(options) as executor:
        bracket = close_in(
            judge, path, tolerance=options.tolerance, limits=_limits(options), progress=meter(options), executor=executor,
            source=_source(options),
        )  # fmt: skip
    answer(options, _figures(bracket), _in_words(bracket, path.rows[0].dtype))
    return 0 if bracket.verdict is bracket.verdict.BRACKETED else 1


def _in_words(bracket: Bracket, dtype: torch.dtype) -> str:
    """What is proved of the largest loss, both sides rounded outward, and what was computed, in the digits that its dtype has.

    The computed one may lie below the proved lower side, which encloses the rounding of computing it.
    """
    upper = above(bracket.upper, 9)
    sides = (
        f"at least {below(bracket.lower, 9)} and at most {upper}, both proved"
        if bracket.lower > -math.inf
        else f"at most {upper}, proved"
    )
    digits = min(9, math.ceil(-math.log10(torch.finfo(dtype).eps)))
    return (
        f"{bracket.verdict.value}: {sides} ({bracket.cells} cells)\n"
        f"  largest computed     {bracket.seen:.{digits}g}, on segment {bracket.segment} at t = {bracket.t:.6f}, rounded in {str(dtype).removeprefix('torch.')}"
    )


def _limits(options: argparse.Namespace) -> Limits:
    return left(options, Limits(cells=options.max_cells, seconds=options.max_seconds))


def _figures(outcome: Certificate | Bracket) -> dict[str, object]:
    """The key figures as JSON values."""
    figures = {name: value for name, value in vars(outcome).items() if name != "bounds"}
    if isinstance(outcome, Bracket):
        figures |= {"verdict": outcome.verdict.value, "lower": outcome.lower if math.isfinite(outcome.lower) else None}
    return figures
