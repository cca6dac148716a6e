"""Run a proof to its end, in sight of a meter."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor

from dss.base.gradients import with_gradients
from dss.base.limits import Limits
from dss.base.path import Path
from dss.base.progress import ProgressMeter
from dss.certificates.bracket import Bracket
from dss.certificates.proof import prove
from dss.objectives.objective import Objective


@with_gradients()
def bracket(
    objective: Objective,
    path: Path,
    *,
    tolerance: float = 1e-2,
    limits: Limits = Limits(),
    progress: ProgressMeter | None = None,
    executor: Executor | None = None,
    source: Callable[[], Objective] | None = None,
) -> Bracket:
    """Close in on the largest loss of a path from both sides, to a share of it.

    Args:
        objective: bounds cells by `enclose` and computes losses.
        path: the path.
        tolerance: wanted: `upper - seen <= tolerance * |seen|`.
        limits: cells and seconds; what is known when one is reached is returned, and its verdict says so.
        progress: shown every bracket on the way.
        executor, source: where cells are bounded; see `prove`.

    Raises:
        InputError: options that cannot be used.
        EnclosureError: the objective cannot be enclosed.
    """
    brackets = prove(objective, path.beads, tolerance=tolerance, max_cells=limits.cells, max_seconds=limits.seconds,
                     executor=executor, source=source)  # fmt: skip
    return watched(brackets, progress or ProgressMeter())


def watched(brackets: Iterator[Bracket], progress: ProgressMeter) -> Bracket:
    """The last bracket of a proof, all of which are shown."""
    with progress.stage("proof", "cells") as meter:
        for found in brackets:
            last = found
            meter.report(found.cells, f"largest loss between {found.seen:.5g} and {found.upper:.5g}")
    return last
