"""The one judge of paths: every finder's proposal passes here or it is not connected."""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from dss.base.errors import InputError, SoundnessError
from dss.base.gradients import with_gradients
from dss.base.limits import Limits, Spent
from dss.base.memory import explained, limit, size
from dss.base.path import Path
from dss.base.progress import ProgressMeter
from dss.base.renamed import renamed
from dss.base.rounded import at_most
from dss.base.shown import Shown
from dss.certificates.bracket import Bracket, Verdict
from dss.certificates.closing import watched
from dss.certificates.convexity import prove_by_convexity
from dss.certificates.proof import prove as prove_path
from dss.certificates.sampling import evaluate_beads, sample_segments
from dss.objectives.objective import Objective

# What the bounds on one cell hold at most, in models of float32 numbers: its weights as Taylor models in float64.
PROOF_MODELS = 9


@dataclass(frozen=True, repr=False)
class Certificate(Shown):
    """What is known of the loss along a whole path.

    Attributes:
        threshold: L0.
        passed: whether the loss was proved to stay at or below L0 or, if sampled, was never seen above it.
        proven: whether `upper` is a rigorous bound for every point of the path; never true of samples.
        upper: the proven bound, or None.
        max_loss: the largest loss seen.
        segment, t: where it was seen, t in [0, 1] along the segment.
        resolution: the largest gap in t between neighbouring evaluations of a segment; None if the path was not sampled.
        evaluations: points of the path at which the loss was evaluated, for a proof the cells that were bounded.
        reason: the outcome in words.
        proof: of which kind: "cells" or "convexity"; None without a proof.
        bounds: `(c, 4)` cells of the proof: segment, lower t, upper t, bound; None without a proof.
    """

    threshold: float
    passed: bool
    proven: bool
    upper: float | None
    max_loss: float
    segment: int
    t: float
    resolution: float | None
    evaluations: int
    reason: str
    proof: str | None = None
    bounds: Tensor | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        return f"Certificate({'passed' if self.passed else 'not passed'}: {self.reason})"


@renamed(points="grid")
@with_gradients()
def certify(
    judge: Objective,
    path: Path,
    *,
    threshold: float,
    grid: int = 20,
    prove: bool = False,
    limits: Limits = Limits(),
    progress: ProgressMeter | None = None,
    executor: Executor | None = None,
    source: Callable[[], Objective] | None = None,
) -> Certificate:
    """Judge a path: by a proof where one is asked for and can be had, else by samples, and say which.

    Args:
        judge: the loss that must stay at or below `threshold`.
        path: the path.
        threshold: L0.
        grid: intervals of the first grid on every segment, for samples.
        prove: try a rigorous bound first: by convexity, which takes a few losses where it applies, then by cells. A judge that cannot be enclosed, or a limit, leaves the samples; the reason
            says so.
        limits: cells and seconds of the proof; samples are taken whatever they cost.
        progress: shown every bracket of the proof.
        executor, source: where the cells of the proof are bounded; see `prove`.

    Raises:
        InputError: a grid of fewer than two intervals.
    """
    if grid < 2:
        raise InputError(f"a grid of at least 2 intervals is needed to see inside a segment, got {grid}")
    with explained(path.size, len(path), judge.samples):
        meter, crew = progress or ProgressMeter(), {"executor": executor, "source": source}
        return _certified(judge, path, threshold, grid, prove, limits, meter, crew)


def proof_bytes(path: Path) -> int:
    """About how much memory a proof takes: what is held of one cell (measured), and the beads."""
    return (PROOF_MODELS + len(path)) * path.size * torch.float32.itemsize


def _certified(
    judge: Objective, path: Path, threshold: float, grid: int, prove: bool, limits: Limits, progress: ProgressMeter, crew: dict
) -> Certificate:
    if not prove:
        return _sampled(judge, path, threshold, grid)
    need = proof_bytes(path)
    if need > limit():
        obstacle = f"it would take about {size(need)}, and this process may take {size(limit())}"
        return _with_reason(_sampled(judge, path, threshold, grid), f"no proof: {obstacle}")
    by_corners = _by_convexity(judge, path, threshold)
    if by_corners is not None:
        return by_corners
    try:
        bracket = _proof(judge, path, threshold, limits, progress, crew)
    except (Spent, SoundnessError):
        raise
    except Exception as error:  # a path that was found is never lost to what a proof of it met
        return _with_reason(_sampled(judge, path, threshold, grid), f"no proof: {_told(error)}")
    if bracket.verdict in (Verdict.PROVEN, Verdict.REFUTED):
        return _from_bracket(bracket, threshold)
    return _with_reason(_sampled(judge, path, threshold, grid), f"no proof: {bracket.verdict.value}")


def _by_convexity(judge: Objective, path: Path, threshold: float) -> Certificate | None:
    """The certificate of a path that its corners judge; None where they do not."""
    try:
        pieces = prove_by_convexity(judge, path)
    except (Spent, SoundnessError):
        raise
    except Exception:
        return None  # most paths are not built so; what the cells say of this one counts
    corner = int(pieces.losses.argmax())
    seen, place = pieces.losses[corner].item(), (corner, 0.0) if corner < len(pieces.kinds) else (corner - 1, 1.0)
    counts = f"{pieces.kinds.count('convex')} convex and {pieces.kinds.count('constant')} constant pieces"
    if pieces.obstacle is not None and seen <= threshold:
        reason = (
            f"sampled: no loss above {threshold:g} at the corners, and none can be between them ({counts}); how high they are is "
            f"not proved: {pieces.obstacle}"
        )
        return Certificate(threshold, True, False, None, seen, *place, 1.0, len(pieces.losses), reason)
    if not pieces.upper <= threshold:
        return None
    reason = f"proved: the loss is at most {at_most(pieces.upper, threshold)} at every point of the path (by convexity: {counts})"
    return Certificate(
        threshold, True, True, pieces.upper, seen, *place, None, len(pieces.losses), reason, "convexity", pieces.cells,
    )  # fmt: skip


def _proof(judge: Objective, path: Path, threshold: float, limits: Limits, progress: ProgressMeter, crew: dict) -> Bracket:
    """Where the proof ends."""
    brackets = prove_path(judge, path.beads, threshold=threshold, max_cells=limits.cells, max_seconds=limits.seconds, **crew)
    return watched(brackets, progress)


def _from_bracket(bracket: Bracket, threshold: float) -> Certificate:
    """The certificate of a proof that ended either way."""
    place = (bracket.segment, bracket.t)
    if not bracket.proven:
        reason = _refusal(bracket.seen, threshold, *place)
        return Certificate(threshold, False, False, None, bracket.seen, *place, None, bracket.cells, reason)
    reason = f"proved: the loss is at most {at_most(bracket.upper, threshold)} at every point of the path ({bracket.cells} cells)"
    return Certificate(
        threshold, True, True, bracket.upper, bracket.seen, *place, None, bracket.cells, reason, "cells", bracket.bounds
    )


def _told(error: Exception) -> str:
    """What was in the way of a proof: a refusal says it itself, anything else was not foreseen."""
    words = " ".join(str(error).split())
    return words if isinstance(error, InputError) else f"it raised {type(error).__name__}: {words}"


def _with_reason(certificate: Certificate, more: str) -> Certificate:
    return replace(certificate, reason=f"{certificate.reason} ({more})")


def _refusal(loss: float, threshold: float, segment: int, t: float) -> str:
    return f"the loss is {loss:.6g} > {threshold:g} on segment {segment} at t = {t:.4f}"


def _sampled(judge: Objective, path: Path, threshold: float, grid: int) -> Certificate:
    """Both ends, every bead, every segment, refined where the loss peaks."""
    beads = evaluate_beads(judge, path)
    peaks = sample_segments(judge, path, grid=grid)
    losses = torch.cat([beads, peaks.losses])
    segments = torch.cat([torch.arange(len(path)).clamp_max(len(path) - 2), torch.arange(len(path) - 1)])
    t = torch.cat([torch.zeros(len(path) - 1), torch.ones(1), peaks.t])
    worst = int(losses.argmax())
    max_loss, place = losses[worst].item(), (int(segments[worst]), t[worst].item())
    passed, evaluations = max_loss <= threshold, peaks.evaluations + len(path)
    sampled = f"sampled: no loss above {threshold:g} at {evaluations} points of the path"
    reason = sampled if passed else _refusal(max_loss, threshold, *place)
    return Certificate(threshold, passed, False, None, max_loss, *place, 1 / grid, evaluations, reason)
