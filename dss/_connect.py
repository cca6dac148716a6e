"""From two ends to a certified answer: validate once, drive a finder, certify what it proposes."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path as FilePath
from typing import Literal

from dss._connection import Connection, Searched
from dss.base.errors import InputError
from dss.base.gradients import with_gradients
from dss.base.limits import Limits, Spent, Status
from dss.base.memory import size
from dss.base.path import Path
from dss.base.progress import ProgressMeter
from dss.base.renamed import renamed
from dss.certificates.certificate import Certificate, certify, proof_bytes
from dss.finders import ConvexPath, default_finder
from dss.finders.constructed import constructed_path
from dss.finders.finder import Finder, Step
from dss.geodesic.shortening import UNLIMITED, Shortened, Shortening, shorten_within
from dss.objectives.objective import End, Objective
from dss.objectives.wrappers import Tally
from dss.problem import Problem
from dss.theory.obstruction import Obstruction, Wall, highest_wall

PROVE = ("auto", "always", "never")
# The shortest time that an automatic proof gets, however fast the search was.
PROOF_SECONDS = 10.0
# An automatic proof is tried where it takes less memory.
PROOF_BYTES = 2 * 2**30


@renamed(points="grid")
@with_gradients()
def connect(
    objective: Objective,
    start: End,
    end: End,
    *,
    threshold: float,
    judge: Objective | None = None,
    finder: Finder | None = None,
    shorten: bool | Shortening = False,
    limits: Limits | None = None,
    seed: int = 0,
    grid: int = 20,
    prove: Literal["auto", "always", "never"] = "auto",
    progress: ProgressMeter | None = None,
    obstructions: Sequence[Obstruction] = (),
    beads_on_disk: FilePath | None = None,
) -> Connection:
    """Search for a path between two points along which the judged loss stays at or below a threshold.

    Args:
        objective: gradients come from it.
        start, end: points `(p,)` or state dicts; see `ParameterSpace.flatten`.
        threshold: L0.
        judge: the loss that must stay below; the objective itself by default. It needs no gradient.
        finder: the algorithm. By default `BendString` (`GreedyString` for large networks), and where it finds nothing, or the proof of what it found fails or runs out
            of its limits, a constructed path (`ConvexPath`) if the network can be taken apart; see docs/finders.md, "How connect chooses".
        shorten: pull the path tight inside its level set before it is certified; True or options (`dss.Shortening`).
        limits: of the search, in place of the finder's own; seconds are those of search, shortening and proof together.
        seed: of every random choice; the same seed gives the same result.
        grid: intervals of the certificate's first grid on every segment.
        prove: "auto" tries a proof for as long as the search took (ten seconds at least), "always" without a limit
            of time of its own; a judge that cannot be enclosed is sampled, and the certificate says so.
        progress: shown search, shortening and proof.
        obstructions: such as `dss.theory.bottleneck_obstruction` makes. Where one has a wall above the threshold between these
            ends, there is nothing to search: the answer is "proved disconnected", and its reason is the wall's.
        beads_on_disk: an existing folder in which beads lie instead of in memory, but for those in training: for large networks.
            The result is the same, and its path needs the folder (see `Path.store`).

    Returns:
        The connection. A search that fails is not an error: `connected` is False, and the partial path is there.

    Raises:
        InputError: the ends cannot be used, or lie above the threshold.
        RuntimeError: a proved wall and a certificate contradict each other.
    """
    began = time.monotonic()
    problem = Problem.of(objective, start, end, threshold=threshold, judge=judge, seed=seed)
    chosen = (finder or default_finder(problem.start.numel(), on_disk=beads_on_disk is not None)).within(limits)
    wall = highest_wall(obstructions, problem.judge, problem.start, problem.end)
    last = chosen.run(problem, resume=first_step(problem, chosen, wall), progress=progress, beads_on_disk=beads_on_disk)
    return conclude(
        problem, chosen, last, shorten=shorten, grid=grid, prove=prove, began=began, progress=progress, wall=wall,
        constructed=finder is None,
    )  # fmt: skip


def first_step(problem: Problem, finder: Finder, wall: Wall | None) -> Step:
    """Where a search begins; with a wall above the threshold it is also where it ends, at the straight line."""
    if _separates(problem, wall):
        return Step.unjudged(problem.straight, status=Status.DISCONNECTED)
    return finder.begin(problem)


def _separates(problem: Problem, wall: Wall | None) -> bool:
    return wall is not None and wall.lower > problem.threshold


@renamed(points="grid")
@with_gradients()
def conclude(
    problem: Problem,
    finder: Finder,
    step: Step,
    *,
    shorten: bool | Shortening = False,
    starts: Sequence[Path] = (),
    grid: int = 20,
    prove: Literal["auto", "always", "never"] = "auto",
    began: float | None = None,
    progress: ProgressMeter | None = None,
    wall: Wall | None = None,
    executor: Executor | None = None,
    source: Callable[[], Problem] | None = None,
    constructed: bool = False,
) -> Connection:
    """Shorten if asked, and certify the path of a search's last step.

    Args:
        finder: its limit in seconds counts from `began`.
        shorten, grid, prove: as for `connect`.
        starts: other strings between the same ends from which shortening starts too.
        began: `time.monotonic()` when the search began, for the seconds reported.
        progress: shown shortening and proof.
        wall: what obstructions prove between the ends (`dss.theory.highest_wall`).
        executor, source: where the starts of a shortening run; see `shorten_within`.
        constructed: whether a constructed path may take the place of one that does not pass, or whose proof was tried and
            failed or ran out of its limits; of a path that passed only if the constructed one is proved.

    Raises:
        InputError: an unknown way to prove, or a start with other ends.
        RuntimeError: the wall is above the threshold, and a certificate passed.
    """
    if prove not in PROVE:
        raise InputError(f"prove must be one of {', '.join(PROVE)}, got {prove!r}")
    began = time.monotonic() if began is None else began
    limits = finder.limits.left(began)
    if _separates(problem, wall):
        step = replace(step, status=Status.DISCONNECTED)
    shortened = None
    if shorten is not False and step.status is Status.FOUND:
        options = replace(Shortening() if shorten is True else shorten, grid=grid)
        tight = partial(shorten_within, starts=starts, executor=executor, source=source)
        shortened = _shortened(problem, step.path, options, tight, limits, progress)
    if shortened is not None:
        step = replace(step, path=shortened.path)
    certificate, name = _certificate(problem, step, finder.limits, began, grid, prove, progress), finder.proposer(step)
    searched = None
    if constructed and not _separates(problem, wall) and not _settled(step, certificate, prove):
        written = constructed_path(problem, finder.limits, grid=grid, prove=prove != "never", began=began)
        if written is not None and (written[1].proven or not certificate.passed):
            searched = Searched(name, step.path, certificate)
            (step, certificate), name, shortened = written, ConvexPath.name, None
    linear = _sampled_in_time(problem, Step.unjudged(problem.straight), finder.limits, began, grid)
    _check_wall(problem, wall, certificate, linear)
    return Connection(
        path=step.path,
        certificate=certificate,
        status=step.status,
        problem=problem,
        linear=linear,
        finder=name,
        rounds=step.round,
        gradient_steps=step.gradient_steps,
        seconds=time.monotonic() - began,
        tally=Tally(**asdict(problem.tally)),
        shortened=shortened,
        wall=wall,
        searched=searched,
    )


def _settled(step: Step, certificate: Certificate, prove: str) -> bool:
    """Whether the search's path is the answer, so that none is constructed: it is proved, or it passed and no proof of it was tried."""
    return certificate.proven or (certificate.passed and not _is_tried(step, prove))


def _is_tried(step: Step, prove: str) -> bool:
    """Whether a proof of the path is tried: an automatic one only where it takes little memory."""
    return prove == "always" or (prove == "auto" and proof_bytes(step.path) <= PROOF_BYTES)


def _check_wall(problem: Problem, wall: Wall | None, *certificates: Certificate) -> None:
    """A path that passes below a proved wall is a mistake of ours, or samples that missed a spike: never an answer."""
    for certificate in certificates:
        if wall is not None and _separates(problem, wall) and certificate.passed:
            raise RuntimeError(
                f"internal contradiction: no path between these ends stays below {wall.lower:.9g} ({wall.reason}), yet one passed at "
                f"{problem.threshold:.9g} ({certificate.reason}); either its samples missed a spike of the loss, or this is a mistake of "
                "the package: please report it with the two ends"
            )


def _certificate(
    problem: Problem,
    step: Step,
    limits: Limits,
    began: float,
    grid: int,
    prove: str,
    progress: ProgressMeter | None,
) -> Certificate:
    """The certificate of a search's last path; a search that failed has a point above the threshold: nothing to prove."""
    wanted, searched = prove != "never" and step.status is Status.FOUND, time.monotonic() - began
    heavy = wanted and not _is_tried(step, prove)
    if limits.seconds is not None or not wanted or heavy:
        # Where time is limited, samples come first: a proof that ends without one could leave them none.
        sampled = _sampled_in_time(problem, step, limits, began, grid)
        if heavy and sampled.passed:
            need = size(proof_bytes(step.path))
            return replace(
                sampled, reason=f"{sampled.reason} (no proof: it would take about {need}; ask for it by prove='always')"
            )
        if not wanted or not sampled.passed:
            return sampled
    limits = limits.left(began)
    if prove == "auto":
        patience = max(searched, PROOF_SECONDS)
        limits = replace(limits, seconds=patience if limits.seconds is None else min(patience, limits.seconds))
    return certify(
        problem.recalled, step.path, threshold=problem.threshold, grid=grid, prove=True, limits=limits, progress=progress
    )


def _sampled_in_time(problem: Problem, step: Step, limits: Limits, began: float, grid: int) -> Certificate:
    """The sampled certificate of a step's path; one that did not pass where the limit on seconds is reached first."""
    try:
        with problem.limited(replace(UNLIMITED, seconds=limits.seconds), began=began):
            return certify(problem.recalled, step.path, threshold=problem.threshold, grid=grid)
    except Spent as spent:
        # The ends were judged when the question was put.
        seen = max(problem.loss_start, problem.loss_end, *step.maxima[~step.maxima.isnan()].tolist())
        reason = f"not certified: {spent.status.sentence}, before every segment was sampled"
        return Certificate(problem.threshold, False, False, None, seen, 0, 0.0, None, 0, reason)


def _shortened(
    problem: Problem,
    path: Path,
    options: Shortening,
    tight: Callable[..., Shortened],
    limits: Limits,
    progress: ProgressMeter | None,
) -> Shortened | None:
    """What shortening makes of the path, if the path passes its certificate."""
    began = time.monotonic()
    if not _sampled_in_time(problem, Step.unjudged(path), limits, began, options.grid).passed:
        return None
    # Rounds and beads were the search's; time is one for all.
    limits = replace(UNLIMITED, seconds=limits.left(began).seconds)
    return tight(problem, path, options, limits=limits, progress=progress)
