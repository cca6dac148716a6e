"""Bends trained as segments: from one bend, stopped as soon as the string passes, then pulled tight with what is left."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import torch

from dss.base.adam import Adam
from dss.base.errors import InputError, NotFinite
from dss.base.limits import Limits, Status
from dss.base.path import Path
from dss.base.renamed import renamed
from dss.certificates.progressive import Place, ProgressiveJudge
from dss.certificates.sampling import Peaks, sample_segments
from dss.finders.descent import Descent, OptimizerFactory
from dss.finders.finder import Finder, Step
from dss.finders.geodesic import GeodesicString
from dss.finders.greedy import GreedyString
from dss.finders.segments import natural_rate, train_segments
from dss.finders.taut import PULL, tauten
from dss.problem import Problem

# A round ends where the mean loss of so many steps fell by less than this share of that of as many before.
WINDOW, FALL = 60, 0.02
# Steps are this much smaller in every round.
SMALLER = 0.7
# Of so many coordinates and more, a string finds its valley nearer to the straight line: longer steps lead past it.
WIDE, SHORTER = 2**18, 1 / 3
# Bends whose string still rises so many times the threshold's size above the threshold are given up.
HOPELESS = 4.0
# Coordinates times samples up to which a search with exact gradients goes by second-order steps.
SMALL = 2**20
# The share of the distance of the ends that their first steps go: second-order steps follow.
SMALL_SHARE = 0.01
# A path that passes is pulled in parts of so many gradient steps, each of which is judged: a limit loses one of them at most.
PART = 1000
# Of a pulled string that fails, so much is mixed with the path that passed, which is as long or longer.
MIXED = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
# Intermediate beads that a string gets before it is pulled: one bend alone cannot follow a curved valley.
TIGHT_BEADS = 2


@renamed(points="grid")
@dataclass(frozen=True)
class BendString(Finder):
    """Train a few bends together, as segments; greedy insertion gets what resists.

    A round puts a bend at the peak of every segment that failed and trains all bends by the loss at places all over their
    segments (`train_segments`), at a rate that the distance of the ends gives (`natural_rate`). Every few steps a few
    evaluations, on few samples first, say whether the string may pass (`ProgressiveJudge`); then it is judged in full. After
    `patience` rounds, or where the string rises far above the threshold, greedy insertion begins at the straight line: what
    `GreedyString` finds is found here.

    A path of bends that passes is pulled tight (`tauten`) for as many gradient steps as the search took, times `tighten`, which
    with two beads and few looks takes little longer than so many steps of the search. Only what passes is kept.

    Where gradients are exact and cheap, as those of a small network on all its data, a `GeodesicString` takes the bends' place.

    Attributes:
        bends: of the first string.
        share: of the distance of the ends that a coordinate goes in one step at first; a third of it in networks of 2^18 parameters and more.
        round_steps: gradient steps of one round, at most.
        check_every: steps between two looks at the judge.
        patience: rounds before greedy insertion takes over.
        tighten: gradient steps of the tightening, per gradient step of the search; 0 leaves it out.
        grid: intervals of the grid on which a segment is judged.
        small: takes the bends' place where gradients are exact and cheap; it gets this finder's grid, limits and fallback. None: bends.
        fallback: greedy insertion; it gets this finder's grid and limits.
        descent: in place of the rule for the rate, and of the fallback's own.
        limits: what ends the search.
    """

    name: ClassVar[str] = "bend"
    bends: int = 1
    share: float = 0.03
    round_steps: int = 400
    check_every: int = 10
    patience: int = 4
    tighten: float = 2.0
    grid: int = 20
    small: GeodesicString | None = field(default_factory=GeodesicString)
    fallback: GreedyString = field(default_factory=GreedyString)
    descent: Descent | None = None
    limits: Limits = Limits()

    def __post_init__(self):
        if min(self.bends, self.round_steps, self.check_every) < 1 or self.share <= 0 or min(self.patience, self.tighten) < 0:
            raise InputError(
                f"bends, round_steps and check_every are at least 1, share is positive, patience and tighten are not negative, got {self}"
            )

    def advance(self, problem: Problem, step: Step) -> Step:
        """One round, as the last step left it; what runs off to infinity goes to greedy insertion, unless a path passed before."""
        try:
            return self._round(problem, step)
        except NotFinite:
            if "pull" in step.memory:
                return replace(step, status=Status.FOUND)
            if "greedy" in step.memory:
                raise
            return self._inserted(problem, step)

    def _round(self, problem: Problem, step: Step) -> Step:
        if "pull" in step.memory:
            return self._tightened(problem, step)
        if "greedy" in step.memory:
            return self._inserted(problem, step)
        if self.small is not None and _is_small(problem):
            return self._shortened(problem, step, self.small)
        if not step.memory:
            return self._first(problem, step)
        hopeless = step.max_loss > problem.threshold + HOPELESS * problem.scale
        if hopeless or step.memory["bent"] >= self.patience:
            return self._inserted(problem, step)
        return self._bent(problem, step)

    def ended(self, step: Step, status: Status) -> Step:
        """Where a limit ends the pulling, the path has passed all the same."""
        return replace(step, status=Status.FOUND if "pull" in step.memory else status)

    def _first(self, problem: Problem, step: Step) -> Step:
        """The path that the search starts from: a line that passes is the answer, another gets its bends."""
        peaks, _ = self._judged(self._look(problem), step.path)
        if peaks is not None:
            return replace(step, maxima=peaks.losses, status=Status.FOUND)
        path = step.path if len(step.path) > 2 else step.path.resample(2 + min(self.bends, self.limits.room(0)))
        return self._trained(problem, replace(step, path=path, memory={"bent": 0}))

    def _bent(self, problem: Problem, step: Step) -> Step:
        """A bend at the peak of every segment that failed, the worst first; then all of them are trained."""
        failed = torch.nonzero(step.maxima > problem.threshold)[:, 0]
        room = self.limits.room(step.path.intermediate_beads)
        if len(failed) > room:
            failed = failed[step.maxima[failed].topk(room).indices].sort().values
        t = torch.tensor(step.memory["t"], dtype=torch.float64)[failed]
        path = step.path.insert(failed, step.path.points(failed, t))
        return self._trained(problem, replace(step, path=path))

    def _trained(self, problem: Problem, step: Step) -> Step:
        """One round of training, which ends when the string passes, or falls no more."""
        bent, look, place = step.memory["bent"], self._look(problem), None
        optimizer = self._optimizer(problem, self.share * SMALLER**bent)
        losses, trained, peaks = [], None, None
        for trained in train_segments(problem, step.path, optimizer, problem.generator("bend", step.round)):
            losses.append(trained.loss)
            if len(losses) % self.check_every == 0:
                peaks, place = self._judged(look, trained.path, place)
            if peaks is not None or len(losses) >= self.round_steps or _settled(losses):
                break
        assert trained is not None
        path = trained.path
        if peaks is None:  # few samples may lie above the threshold where all of them do not
            peaks, _ = look.judged(path, self.grid)
        if peaks is not None:
            return self._pulling(self._after(step, path, trained.gradient_steps, peaks, {}))
        peaks = sample_segments(problem.judge, path, grid=self.grid, refine=False)
        return self._after(step, path, trained.gradient_steps, peaks, {"bent": bent + 1, "t": peaks.t.tolist()})

    def _after(self, step: Step, path: Path, taken: int, peaks: Peaks, memory: dict) -> Step:
        return replace(step, path=path, maxima=peaks.losses, gradient_steps=step.gradient_steps + taken, memory=memory)

    def _pulling(self, found: Step) -> Step:
        """A step whose path passed, before the first pull."""
        until = found.gradient_steps + int(self.tighten * found.gradient_steps)
        if until == found.gradient_steps:
            return replace(found, status=Status.FOUND)
        return replace(found, status=Status.SEARCHING, memory={"pull": PULL, "until": until})

    def _inserted(self, problem: Problem, step: Step) -> Step:
        """A round of greedy insertion, from the straight line on: what `GreedyString` finds is found here."""
        greedy = replace(self.fallback, grid=self.grid, limits=self.limits)
        greedy = greedy if self.descent is None else replace(greedy, descent=self.descent)
        memory = {"greedy": step.memory.get("greedy", step.round)}
        if "greedy" not in step.memory:
            step = Step.unjudged(problem.straight, round=step.round, gradient_steps=step.gradient_steps)
        # Its rounds are counted from its own first, so that it draws what `GreedyString` draws.
        after = greedy.advance(problem, replace(step, round=step.round - memory["greedy"]))
        return replace(after, round=step.round, memory=memory)

    def _shortened(self, problem: Problem, step: Step, small: GeodesicString) -> Step:
        """A round of the search that shortens while it looks; where that gives up, greedy insertion begins anew."""
        if step.round > 2 * small.patience:
            return self._inserted(problem, step)
        small = replace(small, grid=self.grid, limits=self.limits, fallback=self.fallback)
        if self.descent is not None:
            small = replace(small, descent=self.descent)
        elif small.first is not None and small.descent is None:  # the fallback keeps its own
            small = replace(small, first=replace(small.first, descent=Descent(self._optimizer(problem, SMALL_SHARE))))
        after = small.advance(problem, step)
        return self._inserted(problem, step) if after.status is Status.STALLED else after

    def _tightened(self, problem: Problem, step: Step) -> Step:
        """Pull for a part of the steps that are left, and keep what passes of it, if it is shorter."""
        memory, path = step.memory, _beaded(step.path, min(TIGHT_BEADS, self.limits.beads or TIGHT_BEADS))
        part = min(PART, memory["until"] - step.gradient_steps)
        taut = tauten(problem, path, memory["pull"], part, problem.generator("bend", step.round))
        taken = step.gradient_steps + taut.gradient_steps
        status = Status.SEARCHING if taken < memory["until"] else Status.FOUND
        after = replace(step, gradient_steps=taken, status=status, memory=memory | {"pull": taut.pull})
        if taut.path.normalized_length >= step.path.normalized_length:
            return after
        for share in MIXED:
            mixed = Path(torch.lerp(path.beads, taut.path.beads, share))
            peaks, _ = self._judged(self._look(problem), mixed)
            if peaks is not None:
                return replace(after, path=mixed, maxima=peaks.losses)
        return after

    def _optimizer(self, problem: Problem, share: float) -> OptimizerFactory:
        if self.descent is not None:
            return self.descent.optimizer
        share *= SHORTER if problem.start.numel() >= WIDE else 1.0
        return partial(Adam, lr=natural_rate(problem, share), fused=True)

    def _look(self, problem: Problem) -> ProgressiveJudge:
        return ProgressiveJudge(problem.judge, problem.threshold, problem.scale)

    def _judged(self, look: ProgressiveJudge, path: Path, first: Place | None = None) -> tuple[Peaks | None, Place | None]:
        """The peaks of a path that passes, or where it fails: by a look, then by all samples."""
        place = look.failure(path, first)
        return look.judged(path, self.grid) if place is None else (None, place)


def _is_small(problem: Problem) -> bool:
    """Whether gradients are exact and so cheap that second-order steps on all the data pay."""
    return problem.objective.exact_estimate and problem.start.numel() * problem.judge.samples <= SMALL


def _settled(losses: list[float]) -> bool:
    """Whether the mean loss falls no more."""
    if len(losses) < 2 * WINDOW or len(losses) % WINDOW:
        return False
    before, now = sum(losses[-2 * WINDOW : -WINDOW]), sum(losses[-WINDOW:])
    return before - now < FALL * abs(before)


def _beaded(path: Path, least: int) -> Path:
    """The same curve with at least so many intermediate beads: middles of its longest segments are added."""
    while path.intermediate_beads < least:
        longest = path.segment_lengths().argmax()[None].cpu()
        path = path.insert(longest, path.points(longest, torch.tensor([0.5], dtype=torch.float64)))
    return path
