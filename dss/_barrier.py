"""Seeing the minimax: how low a threshold can be with a path still found."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

from dss.base.errors import InputError
from dss.base.gradients import with_gradients
from dss.base.limits import Limits, Status
from dss.base.path import Path
from dss.base.progress import ProgressMeter
from dss.base.renamed import renamed
from dss.base.rounded import above
from dss.base.shown import Shown
from dss.certificates.certificate import Certificate, certify
from dss.finders import ElasticBand, GeodesicString
from dss.finders.finder import Finder, Step
from dss.objectives.objective import End, Objective
from dss.objectives.wrappers import Tally
from dss.problem import Problem, ends_of
from dss.theory.obstruction import Obstruction, highest_wall

# A path seen to stay below a proved wall by this share of its height over the ends did not miss its top by a little.
CONTRADICTION = 0.05
# Pulling tight is quick well above the barrier; a climbing band goes on to the saddle itself.
FINDERS = (GeodesicString(limits=Limits(rounds=8)), ElasticBand(climb=True, limits=Limits(rounds=12)))


@dataclass(frozen=True, eq=False, repr=False)
class Barrier(Shown):
    """A bracket of the lowest threshold at which two points are connected.

    Attributes:
        upper: the largest loss on `path`, as certified, or `lower` if that was proved and is higher: the points are connected at
            this threshold.
        lower: with `lower_proven`, the wall of an obstruction: no path whatever stays below it. Else the highest threshold at
            which no path was found, or the higher end's loss if every search succeeded; a search that fails proves nothing:
            the true barrier may then lie below, but never below the higher end.
        linear: the largest loss on the straight line.
        ends: the higher end's loss.
        path: the path with the largest loss `upper`.
        certificate: of the path, at the threshold `upper`.
        tried: (threshold, found) of every search, in order.
        tally: evaluations, in samples.
        lower_proven: whether `lower` is a theorem. What searches failed to reach above it is in `tried`.
        reason: what the obstructions say; empty without any.
    """

    upper: float
    lower: float
    linear: float
    ends: float
    path: Path
    certificate: Certificate
    tried: tuple[tuple[float, bool], ...]
    tally: Tally = field(default_factory=Tally)
    lower_proven: bool = False
    reason: str = ""

    def __repr__(self) -> str:
        how = "proved" if self.certificate.proven else "sampled"
        return f"Barrier(at most {above(self.upper)}, {how}; {self.linear:.6g} on the straight line, {self.ends:.6g} at the higher end)"

    @property
    def excess(self) -> float:
        """The barrier above the higher end: `upper - ends`."""
        return self.upper - self.ends


@renamed(points="grid")
@with_gradients()
def barrier(
    objective: Objective,
    start: End,
    end: End,
    *,
    judge: Objective | None = None,
    finders: tuple[Finder, ...] = FINDERS,
    tolerance: float = 0.02,
    seed: int = 0,
    grid: int = 20,
    progress: ProgressMeter | None = None,
    obstructions: Sequence[Obstruction] = (),
) -> Barrier:
    """Lower the threshold by bisection, each search starting from the best path so far.

    Args:
        objective: gradients come from it.
        start, end: points `(p,)` or state dicts.
        judge: the loss whose barrier is wanted; the objective itself by default.
        finders: tried one after the other at every threshold, each from the best path and from the straight line.
        tolerance: the bracket is narrow enough at this share of the straight line's excess over the ends.
        seed: of every random choice.
        grid: intervals of the certificate's first grid on every segment.
        progress: shown every search.
        obstructions: such as `dss.theory.bottleneck_obstruction` makes; nothing is searched below their walls.

    Raises:
        InputError: the ends cannot be used, or the tolerance is not positive.
        RuntimeError: a path was found below a proved wall.
    """
    if not tolerance > 0 or not finders:
        raise InputError(f"a positive tolerance and at least one finder are needed, got {tolerance} and {finders}")
    start, end = ends_of(objective, start, end)
    line = Path.straight(start, end)
    judged = objective if judge is None else judge.calibrated_by(objective)
    ends = judged(line.beads.detach()).max().item()
    wall = highest_wall(obstructions, judged, start, end)
    proven = wall is not None and wall.lower > ends
    floor = wall.lower if wall is not None and proven else ends
    best = linear = certify(judged, line, threshold=float("inf"), grid=grid)
    path, lower, tried, tally = line, floor, [], Tally()
    with (progress or ProgressMeter()).stage("barrier", "searches") as meter:
        while best.max_loss - lower > tolerance * (linear.max_loss - ends):
            threshold = (best.max_loss + lower) / 2
            problem = Problem.of(objective, start, end, threshold=threshold, judge=judge, seed=seed)
            proposed = _search(problem, finders, path)
            found = certify(problem.judge, proposed, threshold=threshold, grid=grid)
            tried.append((threshold, found.passed))
            path, best, lower = (proposed, found, lower) if found.passed else (path, best, threshold)
            tally += problem.tally
            meter.report(len(tried), f"between {lower:.4g} and {best.max_loss:.4g}")
    certificate = certify(judged, path, threshold=best.max_loss, grid=grid)
    # Samples may miss the very top of a path by a little: the wall is then the better figure.
    if best.max_loss < floor - CONTRADICTION * (floor - ends):
        raise RuntimeError(
            f"internal contradiction: the largest loss seen on a path is {best.max_loss:.9g}, below the proved {floor:.9g}; either its "
            "samples missed a spike of the loss, or this is a mistake of the package: please report it with the two ends"
        )
    upper, lower, reason = max(best.max_loss, floor), floor if proven else lower, "" if wall is None else wall.reason
    return Barrier(upper, lower, linear.max_loss, ends, path, certificate, tuple(tried), tally, proven, reason)


def _search(problem: Problem, finders: tuple[Finder, ...], path: Path) -> Path:
    """The first proposal that a finder holds to pass, from the path or from the straight line; else the last."""
    starts = [path, problem.straight] if len(path) > 2 else [path]
    for finder, start in product(finders, starts):
        last = finder.run(problem, resume=Step.unjudged(start))
        if last.status is Status.FOUND:
            break
    return last.path
