"""What the two polynomial experiments share: ends, the paper's protocol, strict strings with a proof, shortened ones."""

import argparse
import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field, replace
from functools import cache, lru_cache, partial
from pathlib import Path

from torch import Tensor

import dss
from experiments.measurement import STRINGS, Study, pieces
from experiments.polynomial_net import PolynomialObjective, initial_points, midpoint_samples, random_samples, train_ends
from experiments.protocol import PaperString
from experiments.results import Record, Results, work
from experiments.workers import add_workers, executor_of

PROOF_SECONDS = 60.0
# A string keeps all its beads: thinned out, it slips into another, longer valley.
SHORTENING = dss.Shortening(beads=200, doublings=1)


@dataclass(frozen=True)
class Polynomial:
    """One polynomial of the paper.

    Attributes:
        name: of the experiment and its files.
        function: the target.
        bias, bounded: of the network, see `dss.PolynomialNet`.
        thresholds: L0, mean absolute errors.
        variants: (alpha, multiplier) of the protocol by name; "strict" strings are proved, shortened and proved again.
        variant_thresholds: a variant's own thresholds, where they are not all.
        pairs: pairs of ends per threshold.
        samples: of the midpoint rule on [0, 1], which stands for the paper's 10,000 random ones.
        random: draw the samples at random instead, training and test data apart, anew for every seed.
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
        return {"data": self.data} | {
            k: v for k, v in kept.items() if k not in ("function", "variants", "thresholds", "variant_thresholds")
        }

    def objectives(self) -> tuple[PolynomialObjective, PolynomialObjective]:
        """Training loss and judge; one and the same for the midpoint rule."""

        def objective(samples: tuple[Tensor, Tensor], which: str) -> PolynomialObjective:
            words = f"mean absolute error, {self.data}{which}"
            return PolynomialObjective(*samples, bias=self.bias, bounded=self.bounded, description=words)

        if not self.random:
            both = objective(midpoint_samples(self.function, self.samples), "")
            return both, both
        train, test = (random_samples(self.function, self.samples, 2 * self.seed + which) for which in (0, 1))
        return objective(train, ", training"), objective(test, ", test")

    def pieces(self) -> list[tuple[str, float]]:
        """The work of all variants."""
        return pieces({v: self.variant_thresholds.get(v, self.thresholds) for v in self.variants})

    def finders(self) -> dict[str, PaperString]:
        """The protocol of each variant."""
        descent = dss.Descent(max_steps=self.steps, check_every=15)
        return {
            name: PaperString(alpha=alpha, multiplier=multiplier, points=self.points, descent=descent)
            for name, (alpha, multiplier) in self.variants.items()
        }


def study_of(polynomial: Polynomial) -> Study:
    """The study of a polynomial: its ends lie on one training run, and strict paths are proved."""
    objective, judge = polynomial.objectives()
    network = judge.network_objective()

    @cache
    def ends() -> dict[float, tuple[Tensor, Tensor]]:
        levels = tuple({level for _, level in polynomial.pieces()})
        points = initial_points(objective, 2 * polynomial.pairs, polynomial.seed)
        return train_ends(judge, points, levels, max_steps=polynomial.steps)

    def problems(level: float) -> list[dss.Problem]:
        """A pair of which an end never arrived is left out."""
        points, arrived = ends()[level]
        return [
            dss.Problem.of(objective, a, b, threshold=level, judge=judge, seed=polynomial.seed)
            for a, b, both in zip(points[::2], points[1::2], arrived[::2] & arrived[1::2], strict=True)
            if both
        ]

    def prove(problem: dss.Problem, path: dss.Path) -> dss.Certificate:
        """A proof through the network that the judge stands for; sampled if it takes too long."""
        return dss.certify(network, path, threshold=problem.threshold, prove=True, limits=dss.Limits(seconds=PROOF_SECONDS))

    return Study(polynomial.name, polynomial.finders(), objective, judge, objective.space, problems, prove, shortening=SHORTENING)


def main(polynomial: Polynomial, quick: Polynomial, results: Path) -> None:
    """The command line of both scripts."""
    parser = argparse.ArgumentParser(description=f"{polynomial.name}: the paper's protocol, then strict strings.")
    parser.add_argument("--quick", action="store_true", help="a small size, in under a minute, into a file of its own")
    parser.add_argument("--out", type=Path, help="the results, continued if there; by default beside the script")
    add_workers(parser)
    options = parser.parse_args()
    chosen = quick if options.quick else polynomial
    STRINGS.mkdir(exist_ok=True)
    out = options.out or (STRINGS / f"{chosen.name}-quick.json" if options.quick else results)
    with executor_of(options) as executor:
        run(chosen, out, executor)


def run(polynomial: Polynomial, out: Path, executor: Executor | None = None) -> Results:
    """All pieces of a study that `out` does not hold yet."""
    results = Results(out, polynomial.settings)
    measure = study_of(polynomial) if executor is None else partial(measured, pickle.dumps(polynomial))
    work(results, polynomial.pieces(), measure, label=polynomial.name, executor=executor)
    return results


def measured(polynomial: bytes, variant: str, level: float) -> list[Record]:
    """The records of one piece in another process, which trains the ends itself, once."""
    return _study_in(polynomial)(variant, level)


@lru_cache(maxsize=1)
def _study_in(polynomial: bytes) -> Study:
    return study_of(pickle.loads(polynomial))
