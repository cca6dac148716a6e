"""What the image and text experiments share: ends trained down through the thresholds, strings, shortened strings."""

import argparse
import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn

import dss
from experiments.measurement import STRINGS, Study, pieces
from experiments.protocol import PaperString
from experiments.results import Record, Results, work
from experiments.workers import add_workers, executor_of

Pair = tuple[Tensor, Tensor]

# An inner problem of a conv net of three million weights costs seconds per sample path and step: this one stops early, and
# the lengths it leaves are upper bounds.
SHORTENING = dss.Shortening(
    beads=8, doublings=0, rounds=2, constraint_points=1, solver=dss.SequentialQP(iterations=15, updates=4, history=5, samples=128)
)


@dataclass(frozen=True)
class Data:
    """Training and judging samples, and what they are: a figure never mixes two kinds."""

    name: str
    train: Pair
    judge: Pair


@dataclass(frozen=True)
class Network:
    """One network of the paper on one kind of data.

    Attributes:
        name: of the experiment and its files.
        model: a fresh network with random weights.
        loss: gradients come from it.
        judge_loss: the loss that must stay below the thresholds.
        thresholds: L0, in units of `judge_loss`.
        paper_data: the name of the data that these thresholds are for.
        stand_in_thresholds: L0 on other data, where losses differ too much.
        optimizer: of ends and beads.
        batch_size: of training.
        clip_norm: largest norm of a gradient, or None.
        variants: (alpha, multiplier) of the protocol by name.
        insertion: of beads.
        points: of a segment's test.
        pairs: pairs of ends; the default takes a night on two cores.
        judge_samples: of the test data, the first ones; None for all.
        steps: gradient steps after which an end or a bead is given up.
        check_every: gradient steps between looks at the judge.
    """

    name: str
    model: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    judge_loss: Callable[[Tensor, Tensor], Tensor]
    thresholds: tuple[float, ...]
    paper_data: str
    optimizer: Callable[[list[Tensor]], torch.optim.Optimizer]
    batch_size: int
    stand_in_thresholds: tuple[float, ...] | None = None
    clip_norm: float | None = None
    variants: Mapping[str, tuple[float, float]] = field(default_factory=lambda: {"paper": (0.98, 1.1), "strict": (0.98, 1.0)})
    insertion: str = "argmax"
    points: int = 20
    pairs: int = 3
    judge_samples: int | None = 1000
    steps: int = 20_000
    check_every: int = 100

    @property
    def descent(self) -> dss.Descent:
        """How ends and beads train."""
        return dss.Descent(self.optimizer, max_steps=self.steps, check_every=self.check_every, clip_norm=self.clip_norm)

    def on(self, data: Data) -> "Network":
        """The study with the thresholds that fit the data."""
        if data.name == self.paper_data or self.stand_in_thresholds is None:
            return self
        return replace(self, thresholds=self.stand_in_thresholds)

    def finders(self) -> dict[str, PaperString]:
        """The protocol of each variant."""
        return {
            name: PaperString(
                alpha=alpha, multiplier=multiplier, points=self.points, insertion=self.insertion, descent=self.descent
            )
            for name, (alpha, multiplier) in self.variants.items()
        }

    def settings(self, data: Data) -> dict[str, object]:
        """What the records depend on."""
        numbers = ("variants", "insertion", "points", "judge_samples", "steps", "check_every", "batch_size", "clip_norm")
        return {"data": data.name} | {name: getattr(self, name) for name in numbers}


def study_of(network: Network, data: Data, pair: int) -> Study:
    """The study of one pair of networks on some data: ends train from one threshold down to the next, certificates are sampled."""
    template = network.model()
    objective = dss.NetworkObjective(
        template, network.loss, data.train, batch_size=network.batch_size, description=f"training loss, {data.name}"
    )
    judged = tuple(part[: network.judge_samples] for part in data.judge)
    judge = dss.NetworkObjective(template, network.judge_loss, judged, description=f"judged loss, {data.name}")

    @cache
    def ends() -> tuple[dict[float, Tensor], ...]:
        return tuple(trained_end(network, objective, judge, seed) for seed in (2 * pair, 2 * pair + 1))

    def problems(level: float) -> list[dss.Problem]:
        """None, if an end never arrived."""
        if not all(level in end for end in ends()):
            return []
        return [dss.Problem.of(objective, *(end[level] for end in ends()), threshold=level, judge=judge)]

    def prove(problem: dss.Problem, path: dss.Path) -> dss.Certificate:
        """Samples: one cell of such a proof costs minutes per thousand images (`docs/proof.md`)."""
        return dss.certify(problem.judge, path, threshold=problem.threshold)

    name = f"{network.name}-{pair}"
    return Study(name, network.finders(), objective, judge, objective.space, problems, prove, shortening=SHORTENING)


def trained_end(network: Network, objective: dss.NetworkObjective, judge: dss.Objective, seed: int) -> dict[float, Tensor]:
    """Where one network first meets each threshold, as far as it comes; a fresh optimizer at every threshold."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        points = objective.space.flatten(network.model().state_dict())[None]
    found = {}
    for level in sorted(network.thresholds, reverse=True):
        generator = torch.Generator().manual_seed(seed)
        trained = dss.descend(objective, judge, points, level, options=network.descent, generator=generator)
        if not trained.reached.all():
            break
        points = trained.points
        found[level] = points[0]
    return found


def run(
    network: Network, data: Data, out: Path, executor: Executor | None = None, read: Callable[[], Data] | None = None
) -> Results:
    """All pieces of a study, with the thresholds that fit the data, that `out` does not hold yet.

    Args:
        read: how the executor's workers come by the data; by default they are sent it.
    """
    # Strings bear the name of the results: those of other data or of another size are not mistaken for these.
    network = replace(network.on(data), name=out.stem)
    results = Results(out, network.settings(data))
    sent = data if read is None else read
    levels = pieces(dict.fromkeys(network.variants, network.thresholds))
    # Pair after pair, each through all thresholds: what a night did not finish lacks pairs, and no part of the curve.
    for pair in range(network.pairs):
        measure = study_of(network, data, pair) if executor is None else partial(measured, pickle.dumps((network, sent)), pair)
        work(results.of_pair(pair), levels, measure, label=f"{network.name}, pair {pair + 1}", executor=executor)
    return results


def measured(study: bytes, pair: int, variant: str, level: float) -> list[Record]:
    """The records of one piece in another process, which trains the ends itself, once."""
    return _study_in(study, pair)(variant, level)


@lru_cache(maxsize=1)
def _study_in(study: bytes, pair: int) -> Study:
    network, data = pickle.loads(study)
    return study_of(network, data if isinstance(data, Data) else data(), pair)


def main(
    network: Network,
    small: Network,
    quick: Network,
    load: Callable[[Path | None], Data],
    load_quick: Callable[[], Data],
    script: str,
) -> None:
    """The command line of these scripts; results on other data, and of another size, get a file of their own."""
    parser = argparse.ArgumentParser(description=f"{network.name}: the paper's protocol, strict strings, shortened ones")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick", action="store_true", help="a tiny size on data that is always at hand, in under a minute, into runs/"
    )
    size.add_argument("--small", action="store_true", help="one or two pairs, two thresholds, few judging samples: under an hour")
    parser.add_argument("--data", type=Path, help="a folder with the files of the paper's data set, or of its stand-in")
    parser.add_argument(
        "--pairs",
        type=int,
        help=f"pairs of ends ({network.pairs}, the paper's twenty take days on two cores); more go on in the same file",
    )
    add_workers(parser)
    options = parser.parse_args()
    chosen = quick if options.quick else small if options.small else network
    read = load_quick if options.quick else partial(load, options.data)
    data = read()
    if options.pairs:
        chosen = replace(chosen, pairs=options.pairs)
    dss.keep_freed_memory()
    STRINGS.mkdir(exist_ok=True)
    folder = STRINGS if options.quick else Path(script).parent
    out = folder / f"{chosen.name}-{data.name.split(',')[0].lower().replace(' ', '-')}.json"
    with executor_of(options) as executor:
        run(chosen, data, out, executor, read)
