"""What the two polynomial experiments share: ends, the paper's protocol, strict strings with a proof, shortened ones."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

import dss
from experiments.polynomial_net import PolynomialObjective, initial_points, midpoint_samples, random_samples, train_ends
from experiments.protocol import PaperString, paper_beads
from experiments.results import Record, Results, work

SHORTENED = "shortened"
PROOF_SECONDS = 60.0
STRINGS = Path(__file__).parent / "runs"  # strings found, for pictures and for shortening; not part of the results


@dataclass(frozen=True)
class Study:
    """One polynomial of the paper.

    Attributes:
        name: of the experiment and its files.
        function: the target.
        bias, bounded: of the network, see `dss.tasks.nets.PolynomialNet`.
        thresholds: L0, mean absolute errors.
        variants: (alpha, multiplier) of the protocol by name; "strict" strings are proved, shortened and proved again.
        variant_thresholds: a variant's own thresholds, where they are not all.
        pairs: pairs of ends per threshold.
        samples: of the midpoint rule on [0, 1], which stands for the paper's 10,000 random ones.
        random: draw the samples at random instead, training and test data apart.
        steps: gradient steps after which an end or a bead is given up.
        points: of a segment's test.
        seed: of the starting points.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    bias: bool
    bounded: bool
    thresholds: tuple[float, ...]
    variants: Mapping[str, tuple[float, float]] = field(default_factory=lambda: {"paper": (0.95, 1.1), "strict": (0.95, 1.0)})
    variant_thresholds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    pairs: int = 20
    samples: int = 200
    random: bool = False
    steps: int = 60_000
    points: int = 100
    seed: int = 0

    @property
    def data(self) -> str:
        """What the results ran on."""
        rule = "random points for training and as many for the test" if self.random else "points of the midpoint rule"
        return f"{self.name}: {self.samples} {rule} on [0, 1]"

    @property
    def settings(self) -> dict[str, object]:
        """What the records depend on."""
        kept = asdict(replace(self, function=None))
        return {"data": self.data} | {k: v for k, v in kept.items() if k not in ("function", "variants", "thresholds", "variant_thresholds")}

    def objectives(self) -> tuple[PolynomialObjective, PolynomialObjective]:
        """Training loss and judge; one and the same for the midpoint rule."""
        def objective(samples: tuple[Tensor, Tensor], which: str) -> PolynomialObjective:
            words = f"mean absolute error, {self.data}{which}"
            return PolynomialObjective(*samples, bias=self.bias, bounded=self.bounded, description=words)

        if not self.random:
            both = objective(midpoint_samples(self.function, self.samples), "")
            return both, both
        train, test = (random_samples(self.function, self.samples, seed) for seed in (self.seed, self.seed + 1))
        return objective(train, ", training"), objective(test, ", test")

    def pieces(self) -> list[tuple[str, float]]:
        """The work, the costly low thresholds first, so that the estimate of the time left is no underestimate."""
        names = [name for v in self.variants for name in ((v, SHORTENED) if v == "strict" else (v,))]
        every = [(name, level) for name in names for level in self.variant_thresholds.get(name, self.thresholds)]
        return sorted(every, key=lambda piece: piece[1])


class Measurement:
    """The ends of a study, trained when first needed, and what is measured between them."""

    def __init__(self, study: Study):
        self.study = study
        self.objective, self.judge = study.objectives()
        self._network = self.judge.network_objective()
        self._ends: dict[float, tuple[Tensor, Tensor]] = {}

    def problems(self, level: float) -> list[dss.Problem]:
        """The pairs of ends at a threshold; a pair of which an end never arrived is left out."""
        if not self._ends:
            levels = tuple({level for _, level in self.study.pieces()})
            points = initial_points(self.objective, 2 * self.study.pairs, self.study.seed)
            self._ends = train_ends(self.judge, points, levels, max_steps=self.study.steps)
        ends, arrived = self._ends[level]
        return [
            dss.Problem.of(self.objective, a, b, threshold=level, judge=self.judge, seed=self.study.seed)
            for a, b, both in zip(ends[::2], ends[1::2], arrived[::2] & arrived[1::2], strict=True)
            if both
        ]

    def __call__(self, variant: str, level: float) -> list[Record]:
        """One record per pair of ends."""
        problems = self.problems(level)
        if variant == SHORTENED:
            return [self.shortened(*pair) for pair in zip(problems, self.strict_paths(level, problems), strict=True)]
        finder = self.finder(variant)
        steps = finder.search_together(problems)
        self._keep(variant, level, [step.path for step in steps])
        return [self.record(problem, step, finder.multiplier) for problem, step in zip(problems, steps, strict=True)]

    def finder(self, variant: str) -> PaperString:
        """The protocol of a variant."""
        alpha, multiplier = self.study.variants[variant]
        descent = dss.Descent(max_steps=self.study.steps, check_every=15)
        return PaperString(alpha=alpha, multiplier=multiplier, points=self.study.points, descent=descent)

    def record(self, problem: dss.Problem, step: dss.Step, multiplier: float) -> Record:
        """What is known of one string. A strict string is connected by its certificate, the paper's by its own test."""
        proof = {}
        if multiplier == 1:
            certificate = self.prove(problem, step.path)
            proof = {"proven": certificate.proven}
        else:
            certificate = dss.certify(problem.judge, step.path, threshold=problem.threshold)
        connected = certificate.passed if multiplier == 1 else step.status is dss.Status.FOUND
        shape = self.shape(step.path)
        return {"connected": connected, "status": step.status.value, **shape, "max_loss": certificate.max_loss, **proof}

    def shortened(self, problem: dss.Problem, path: dss.Path) -> Record:
        """A strict string pulled tight; what did not pass cannot be."""
        if not dss.certify(problem.judge, path, threshold=problem.threshold).passed:
            return {"connected": False}
        found = dss.shorten(problem.objective, path, threshold=problem.threshold, judge=problem.judge)
        certificate = self.prove(problem, found.path)
        return {
            "connected": certificate.passed,
            **self.shape(found.path),
            "max_loss": certificate.max_loss,
            "proven": certificate.proven,
            "converged": found.converged,
            "change": found.change,
        }

    def shape(self, path: dss.Path) -> Record:
        """Beads as the paper counts them; lengths over the weights alone, as in the paper, and over everything."""
        space = self.objective.space
        weights = path.normalized_length_over(space.coordinates(space.weights))
        return {"beads": paper_beads(path), "length": weights, "length_all": path.normalized_length}

    def prove(self, problem: dss.Problem, path: dss.Path) -> dss.Certificate:
        """A proof through the network that the judge stands for; sampled if it takes too long."""
        return dss.certify(self._network, path, threshold=problem.threshold, prove=True, max_seconds=PROOF_SECONDS)

    def strict_paths(self, level: float, problems: list[dss.Problem]) -> list[dss.Path]:
        """The strict strings, from disk if they are there."""
        file = self._file("strict", level)
        if not file.exists():
            self._keep("strict", level, [step.path for step in self.finder("strict").search_together(problems)])
        return [dss.Path(beads) for beads in torch.load(file, weights_only=True)]

    def _keep(self, variant: str, level: float, paths: list[dss.Path]) -> None:
        STRINGS.mkdir(exist_ok=True)
        torch.save([path.beads for path in paths], self._file(variant, level))

    def _file(self, variant: str, level: float) -> Path:
        return STRINGS / f"{self.study.name}-{variant}-{level!r}.pt"


def main(study: Study, quick: Study, results: Path) -> None:
    """The command line of both scripts."""
    parser = argparse.ArgumentParser(description=f"{study.name}: the paper's protocol, then strict strings.")
    parser.add_argument("--quick", action="store_true", help="a small size, in under a minute, into a file of its own")
    parser.add_argument("--out", type=Path, help="the results, continued if there; by default beside the script")
    parser.add_argument("--threads", type=int, default=1, help="of this process (1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    chosen = quick if options.quick else study
    STRINGS.mkdir(exist_ok=True)
    out = options.out or (STRINGS / f"{chosen.name}-quick.json" if options.quick else results)
    run(chosen, out)


def run(study: Study, out: Path) -> Results:
    """All pieces of a study that `out` does not hold yet."""
    results = Results(out, study.settings)
    work(results, study.pieces(), Measurement(study), label=study.name)
    return results
