"""What every figure of the paper measures between pairs of ends: the protocol's string, the strict one, the shortened one, and beside them a path of bends."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

import dss
from experiments.protocol import PaperString, paper_beads
from experiments.results import Record

STRICT, SHORTENED, BENT = "strict", "shortened", "bend"
SOLVER = "sequential quadratic programming"  # rows pulled tight by an earlier solver name it
STRINGS = Path(__file__).parent / "runs"  # strings found, for pictures and for shortening; not part of the results


def pieces(thresholds: Mapping[str, Sequence[float]]) -> list[tuple[str, float]]:
    """The work, per variant and threshold; what is strict is shortened too, and a finder that is not the paper's is asked for as much.

    High thresholds come first: they cost little, so the estimate of the time left grows towards the low ones.
    """
    every = [(name, level) for variant, levels in thresholds.items() for level in levels for name in _names(variant)]
    order = {name: i for i, name in enumerate(dict.fromkeys(name for name, _ in every))}
    return sorted(every, key=lambda piece: (-piece[1], order[piece[0]]))


def _names(variant: str) -> tuple[str, ...]:
    return (STRICT, SHORTENED, BENT) if variant == STRICT else (variant,)


@dataclass(eq=False)
class Study:
    """Searches and shortens between pairs of ends: what an experiment hands in differs, what is measured does not.

    Attributes:
        name: of the experiment, for the files of strings.
        finders: the protocol of each variant.
        objective, judge: of all problems.
        space: tells weights from biases.
        problems: threshold -> the pairs of ends there; they share objective and judge.
        prove: (problem, path) -> the best certificate that can be had of a strict path.
        search: (finder, problems) -> where the searches ended; side by side by default.
        shortening: how strict strings are pulled tight.
        bent: another finder than the paper's, which must stay below the threshold as strict strings must.
    """

    name: str
    finders: Mapping[str, PaperString]
    objective: dss.Objective
    judge: dss.Objective
    space: dss.ParameterSpace
    problems: Callable[[float], list[dss.Problem]]
    prove: Callable[[dss.Problem, dss.Path], dss.Certificate]
    search: Callable[[PaperString, list[dss.Problem]], list[dss.Step]] = PaperString.search_together
    shortening: dss.Shortening = field(default_factory=dss.Shortening)
    bent: dss.Finder = field(default_factory=lambda: dss.BendString(limits=dss.Limits(gradient_steps=100_000)))

    def __call__(self, variant: str, level: float) -> list[Record]:
        """One record per pair of ends."""
        problems = self.problems(level)
        if variant == SHORTENED:
            return [self.shortened(*pair) for pair in zip(problems, self.strict_paths(level, problems), strict=True)]
        if variant == BENT:
            steps, multiplier = [self.bent.run(problem) for problem in problems], 1.0
        else:
            finder = self.finders[variant]
            steps, multiplier = self.search(finder, problems), finder.multiplier
        self._keep(variant, level, [step.path for step in steps])
        return [self.record(problem, step, multiplier) for problem, step in zip(problems, steps, strict=True)]

    def record(self, problem: dss.Problem, step: dss.Step, multiplier: float) -> Record:
        """What is known of one string. A strict string is connected by its certificate, the paper's by its own test."""
        if multiplier == 1:
            certificate = self.prove(problem, step.path)
            outcome: Record = {"connected": certificate.passed, "proven": certificate.proven}
        else:
            certificate = dss.certify(problem.judge, step.path, threshold=problem.threshold)
            outcome = {"connected": step.status is dss.Status.FOUND}
        return {**outcome, "status": step.status.value, **self.shape(step.path), "max_loss": certificate.max_loss}

    def shortened(self, problem: dss.Problem, path: dss.Path) -> Record:
        """A strict string pulled tight; what did not pass cannot be."""
        if not dss.certify(problem.judge, path, threshold=problem.threshold).passed:
            return {"connected": False}
        found = dss.shorten(problem.objective, path, threshold=problem.threshold, judge=problem.judge, options=self.shortening)
        certificate = self.prove(problem, found.path)
        return {
            "connected": certificate.passed,
            "proven": certificate.proven,
            **self.shape(found.path),
            "max_loss": certificate.max_loss,
            "solver": SOLVER,
            "stationarity": found.stationarity,
            "boundary_share": found.boundary_share,
        }

    def shape(self, path: dss.Path) -> Record:
        """Beads as the paper counts them; lengths over the weights alone, as in the paper, and over everything."""
        weights = path.normalized_length_over(self.space.coordinates(self.space.weights))
        return {"beads": paper_beads(path), "length": weights, "length_all": path.normalized_length}

    def strict_paths(self, level: float, problems: list[dss.Problem]) -> list[dss.Path]:
        """The strict strings, from disk if they are there."""
        file = self._file(STRICT, level)
        if not file.exists():
            self._keep(STRICT, level, [step.path for step in self.search(self.finders[STRICT], problems)])
        return [dss.Path(beads) for beads in torch.load(file, weights_only=True)]

    def _keep(self, variant: str, level: float, paths: list[dss.Path]) -> None:
        STRINGS.mkdir(exist_ok=True)
        torch.save([path.beads for path in paths], self._file(variant, level))

    def _file(self, variant: str, level: float) -> Path:
        return STRINGS / f"{self.name}-{variant}-{level!r}.pt"
