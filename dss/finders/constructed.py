"""The path that `connect` falls back on: written down, not searched."""

from dss.base.errors import InputError
from dss.base.limits import Limits, Spent, Status
from dss.certificates.certificate import Certificate, certify
from dss.finders.convex import ConvexPath
from dss.finders.finder import Step
from dss.objectives.network import NetworkObjective
from dss.problem import Problem


def constructed_path(
    problem: Problem, limits: Limits, *, grid: int, prove: bool, began: float
) -> tuple[Step, Certificate] | None:
    """The last step of `ConvexPath` and its path's certificate, if that passes; None where there is no such path.

    Args:
        limits: of the work, which began at `began` (`time.monotonic()`).
        grid, prove: of the certificate.
    """
    if not isinstance(problem.objective.unwrapped, NetworkObjective):
        return None
    writer = ConvexPath()
    try:
        with problem.limited(limits, began=began):
            step = writer.advance(problem, writer.begin(problem))
            if step.status is not Status.FOUND:
                return None
            left, level = limits.left(began), problem.threshold
            certificate = certify(problem.recalled, step.path, threshold=level, grid=grid, prove=prove, limits=left)
    except (InputError, Spent):  # what cannot be taken apart is no error of the user's, who did not ask for it
        return None
    return (step, certificate) if certificate.passed else None
