"""The answer to a question: a path, what is known of it, and what it cost."""

import platform
from dataclasses import asdict, dataclass, field

import torch

from dss._version import __version__
from dss.base.limits import Status
from dss.base.path import Path
from dss.base.shown import Drawn
from dss.certificates.certificate import Certificate
from dss.geodesic.shortening import Shortened
from dss.objectives.wrappers import Tally
from dss.problem import Problem
from dss.theory.obstruction import Wall


@dataclass(frozen=True, eq=False)
class Searched:
    """What a search proposed, where a constructed path took its place: the finder's name, its path and that path's certificate."""

    finder: str
    path: Path
    certificate: Certificate

    @property
    def summary(self) -> dict[str, object]:
        """The key figures as JSON values."""
        return {
            "finder": self.finder,
            "normalized_length": self.path.normalized_length,
            "max_loss": self.certificate.max_loss,
            "connected": self.certificate.passed,
            "reason": self.certificate.reason,
        }


@dataclass(frozen=True, eq=False, repr=False)
class Connection(Drawn):
    """The answer: a path, what is known of it, and what it cost.

    Attributes:
        path: the string found, or as far as the search came.
        certificate: `certify`'s word on it; nothing else decides `connected`.
        status: how the search ended.
        problem: the question.
        linear: the certificate of the straight line, for comparison.
        finder: the name of the finder that proposed the path.
        rounds, gradient_steps: of the search.
        seconds: of this process, search and certificate.
        tally: evaluations by the search and the certificate, in samples.
        shortened: how the path was shortened, if it was.
        wall: what is proved of all paths between the ends, if obstructions were given.
        searched: what the search proposed, if a constructed path took its place.
    """

    path: Path
    certificate: Certificate
    status: Status
    problem: Problem
    linear: Certificate
    finder: str
    rounds: int
    gradient_steps: int
    seconds: float
    tally: Tally = field(default_factory=Tally)
    shortened: Shortened | None = None
    wall: Wall | None = None
    searched: Searched | None = None

    def __repr__(self) -> str:
        count = self.path.intermediate_beads
        beads = f"{count} intermediate bead{'s' * (count != 1)}"
        return f"Connection({'' if self.connected else 'not '}connected: {self.reason}; {beads}, {self.finder})"

    @property
    def connected(self) -> bool:
        """Whether the path's certificate passed. False alone never means "disconnected": a search that fails proves nothing."""
        return self.certificate.passed

    @property
    def disconnected(self) -> bool:
        """Whether an obstruction proves that no path stays at or below the threshold."""
        return self.status is Status.DISCONNECTED

    @property
    def reason(self) -> str:
        """The outcome in words."""
        if self.disconnected and self.wall is not None:
            return self.wall.reason
        return self.certificate.reason if self.connected else f"{self.status.sentence}; {self.certificate.reason}"

    @property
    def summary(self) -> dict[str, object]:
        """The key figures as JSON values, under the names that run folders use."""
        certificate = self.certificate
        return {
            "status": "connected" if self.connected else self.status.value,
            "reason": self.reason,
            "connected": self.connected,
            "proven": certificate.proven,
            "proof": certificate.proof,
            "threshold": self.problem.threshold,
            "max_loss": certificate.max_loss,
            "upper_bound": certificate.upper,
            "normalized_length": self.path.normalized_length,
            "intermediate_beads": self.path.intermediate_beads,
            "linear_barrier": self.linear.max_loss,
            "loss_start": self.problem.loss_start,
            "loss_end": self.problem.loss_end,
            "objective": self.problem.objective.description,
            "judge": self.problem.judge.description,
            "finder": self.finder,
            "rounds": self.rounds,
            "gradient_steps": self.gradient_steps,
            "seed": self.problem.seed,
            "seconds": self.seconds,
            **asdict(self.tally),
            "resolution": certificate.resolution,
            "versions": versions(),
            **({} if self.shortened is None else {"shortened": self.shortened.summary}),
            **({} if self.searched is None else {"searched": self.searched.summary}),
            **({} if self.wall is None else {"obstruction": self.wall.summary}),
        }


def versions() -> dict[str, str]:
    """What produced a result."""
    return {"dss": __version__, "torch": torch.__version__, "python": platform.python_version()}
