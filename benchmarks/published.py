"""The published code of two rivals, run from the user's own checkouts of it. None of it is here.

    git clone https://github.com/timgaripov/dnn-mode-connectivity
    git clone https://github.com/fdraxler/PyTorch-AutoNEB
    python -m benchmarks.rivals digits:0.5 --garipov dnn-mode-connectivity --autoneb PyTorch-AutoNEB --out rivals.jsonl

Each becomes a finder like the others: the same ends, data, minibatches, loss, and Adam at the task's rate.

Theirs are the curves and the networks that stand on them (`curves.py`), and the whole band: `torch_autoneb.neb` with
its tangents, redistribution, insertion and saddle analysis, in cycles of the lengths, insertions and rates of
`configs/cifar10-cnn12.yaml`, relative to the task's rate. Ours are the loop over minibatches around a curve, since
their own cannot be parsed by Python 3.7 or later (`async=True`, in `utils.py`), and a model that loads its data
without worker processes, since theirs starts four. There is no weight decay, as no other finder has any. Both are
judged by the test of the other finders every few steps, and end as soon as it passes; their own code would run all
its steps. The time they take includes those looks. AutoNEB counts in float32, whatever the ends are.
"""

import importlib.util
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from math import inf
from pathlib import Path as File
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import dss
from benchmarks.published_networks import check_plain, on_curve

# Steps, and the rate as a share of the task's: the cycles of the published configuration.
CYCLES = 4 * [(1000, 1.0)] + 2 * [(2000, 1.0)] + 4 * [(1000, 0.1)] + 4 * [(1000, 0.01)]
# Steps of a curve at most, as many as our own curves have in this benchmark.
CURVE_STEPS = 20_000
# Of the control points of a curve with one bend.
FIXED = [True, False, True]


def finders(task: dss.Task, *, garipov: File | None, autoneb: File | None, seconds: float = inf) -> dict[str, "PublishedFinder"]:
    """The finders of the checkouts that are given, by label.

    Raises:
        InputError: a checkout is not one or cannot be imported; a network that the published code cannot take.
    """
    found: dict[str, PublishedFinder] = {}
    if garipov is not None:
        curves = load("curves", garipov, "curves.py", "Bezier", "PolyChain", "CurveNet", "Conv2d", "Linear")
        check_plain(task.model)
        on_curve(curves, task.model, FIXED)  # an unfit network is refused before anything is trained
        found["Bezier curve, published"] = PublishedCurve(task, curves, seconds, shape="Bezier", segments=8)
        found["polygonal chain, published"] = PublishedCurve(task, curves, seconds, shape="PolyChain", segments=2)
    if autoneb is not None:
        names = ("neb", "models", "config", "fill", "helper")
        code = load("torch_autoneb", autoneb, "torch_autoneb/__init__.py", *names)
        check_plain(task.model)
        found["AutoNEB, published"] = PublishedBand(task, code, seconds)
    return found


@cache
def load(name: str, checkout: File, where: str, *needed: str) -> ModuleType:
    """The module or package at `where` in a checkout, imported under `name`; `needed` must be in it.

    Raises:
        InputError: there is no such file, it cannot be imported, or it lacks a name.
    """
    file = checkout / where
    if not file.is_file():
        words = f"it has no {where}; give the top folder of a checkout"
        raise dss.InputError(f"{checkout} is not a checkout of the published code: {words}")
    places = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=places)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError, AttributeError) as error:
        raise dss.InputError(f"{file} cannot be imported: {error}; install what it needs") from error
    missing = [attribute for attribute in needed if not hasattr(module, attribute)]
    if missing:
        raise dss.InputError(f"{file} is not the published code: it has no {', '.join(missing)}")
    return module


Pair = tuple[Tensor, Tensor]  # inputs and target


@dataclass(eq=False)
class Data:
    """The task's training samples, in minibatches drawn as the other finders draw them; what is read is counted."""

    task: dss.Task
    problem: dss.Problem
    samples: Pair = field(init=False)
    generator: torch.Generator = field(init=False)

    def __post_init__(self):
        start = self.problem.start
        inputs, target = self.task.train
        self.samples = tuple(x.to(start) if x.is_floating_point() else x.to(start.device) for x in (inputs, target))
        self.generator = self.problem.generator("published")

    def minibatch(self) -> Pair:
        size = self.problem.objective.batch_samples
        count = len(self.samples[1])
        if size == count:
            return self.samples
        index = torch.randint(count, (size,), generator=self.generator)
        return tuple(x[index] for x in self.samples)

    def loss(self, model: nn.Module, samples: Pair) -> Tensor:
        """The mean loss of some samples, under autograd or not."""
        inputs, target = samples
        tally = self.problem.tally
        if torch.is_grad_enabled():
            tally.gradient_evaluations += len(target)
        else:
            tally.loss_evaluations += len(target)
        return self.task.loss(model(inputs), target)


def highest(problem: dss.Problem, path: dss.Path) -> Tensor:
    """The largest loss seen on each segment, by the test of the other finders."""
    return dss.sample_segments(problem.judge, path, grid=20, threshold=problem.threshold).losses


class Ended(Exception):
    """Raised through the published code, to stop it early."""


@dataclass(eq=False)
class Look:
    """The test that every finder stops by; called with a path, it ends the search when the path passes.

    Attributes:
        problem: what is searched.
        seconds: wall-clock time of the search.
        step: the last path and how it was judged.
    """

    problem: dss.Problem
    seconds: float
    step: dss.Step = field(init=False)

    def __post_init__(self):
        self.began = time.monotonic()

    def __call__(self, path: dss.Path) -> None:
        maxima, threshold = highest(self.problem, path), self.problem.threshold
        unfinished = dss.Status.SECONDS if self.late else dss.Status.SEARCHING
        status = dss.Status.FOUND if (maxima <= threshold).all() else unfinished
        self.step = dss.Step(path, maxima, status)
        if status is not dss.Status.SEARCHING:
            raise Ended

    @property
    def late(self) -> bool:
        return time.monotonic() - self.began >= self.seconds


@dataclass(frozen=True, eq=False)
class PublishedFinder(ABC):
    """Published code behind the one method of a finder that this benchmark calls.

    Attributes:
        task: the network, its loss and its data.
        code: the module or modules of the checkout.
        seconds: wall-clock time of a search, looked at when the path is judged.
    """

    task: dss.Task
    code: Any
    seconds: float

    @abstractmethod
    def search(self, problem: dss.Problem, look: Look) -> None:
        """Run the published code to its end, showing `look` the path every so often."""

    def steps(self, problem: dss.Problem) -> Iterator[dss.Step]:
        """The last step of the search, after the straight line was judged as by every finder."""
        look = Look(problem, self.seconds)
        torch.manual_seed(problem.seed)
        try:
            look(problem.straight)
            self.search(problem, look)
        except Ended:
            yield look.step
        else:
            yield dss.Step(look.step.path, look.step.maxima, dss.Status.STEPS)


@dataclass(frozen=True, eq=False)
class PublishedCurve(PublishedFinder):
    """A curve with one bend (Garipov et al. 2018), judged as the string of its points.

    Attributes:
        shape: the name of the curve in their code.
        segments: of the string.
        every: steps between two looks.
    """

    shape: str
    segments: int
    every: int = 100

    def search(self, problem: dss.Problem, look: Look) -> None:
        data, net = Data(self.task, problem), self.network(problem).train()
        trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=self.task.learning_rate)
        for count in range(1, CURVE_STEPS + 1):
            optimizer.zero_grad()
            data.loss(net, data.minibatch()).backward()  # the place on the curve is drawn by their forward
            optimizer.step()
            if count % self.every == 0:
                look(self.string(net, problem))

    def network(self, problem: dss.Problem) -> nn.Module:
        """Their network on a curve between the ends, on the straight line at first."""
        net = self.code.CurveNet(
            num_classes=None,
            curve=getattr(self.code, self.shape),
            architecture=lambda _classes, fix_points: on_curve(self.code, self.task.model, fix_points),
            num_bends=len(FIXED),
        ).to(problem.start)
        space, end = dss.ParameterSpace.of(self.task.model), self.task.fresh_model().to(problem.start)
        for index, point in ((0, problem.start), (2, problem.end)):
            end.load_state_dict(space.unflatten(point))
            net.import_base_parameters(end, index)
        net.init_linear()
        return net

    def string(self, net: nn.Module, problem: dss.Problem) -> dss.Path:
        """Points of the curve, evenly in its parameter."""
        places = torch.linspace(0, 1, self.segments + 1).to(problem.start)[1:-1]
        points = [torch.from_numpy(net.weights(t[None])).to(problem.start) for t in places]
        return dss.Path(torch.stack([problem.start, *points, problem.end]))


@dataclass(frozen=True, eq=False)
class PublishedBand(PublishedFinder):
    """The nudged elastic band with automatic insertion (Draxler et al. 2018).

    Attributes:
        every: steps between two looks.
    """

    every: int = 50

    def search(self, problem: dss.Problem, look: Look) -> None:
        # Their progress bars would run across the table.
        self.code.helper.pbar = lambda iterable, *_words: iterable
        energy = Energy(self.task.fresh_model().to(problem.start), Data(self.task, problem))
        model = self.code.models.ModelWrapper(energy)
        band = {"path_coords": problem.straight.beads, "target_distances": torch.ones(1).to(problem.start)}
        for number in range(len(CYCLES)):
            band = self.code.neb(band, model, self.cycle(number, look))

    def cycle(self, number: int, look: Look) -> object:
        """The configuration of one cycle: three pivots at first, then two more wherever the profile is worst."""
        steps, share = CYCLES[number]
        insertion = (self.code.fill.highest, {"count": 2, "key": "dense_train_loss"})
        method, arguments = insertion if number else (self.code.fill.equal, {"count": 3})
        optimization = self.code.config.OptimConfig(
            nsteps=steps,
            algorithm_type=torch.optim.Adam,
            algorithm_args={"lr": share * self.task.learning_rate},
            scheduler_type=partial(Watch, look, self.every),
            scheduler_args={},
            eval_config=None,
        )
        return self.code.config.NEBConfig(inf, 0.0, method, arguments, 9, optimization)


class Energy(nn.Module):
    """The task's loss as the band asks for it: of a minibatch in `forward`, of all samples in `analyse`."""

    def __init__(self, net: nn.Module, data: Data):
        super().__init__()
        self.net, self.data = net, data

    def forward(self) -> Tensor:
        return self.data.loss(self.net, self.data.minibatch())

    def analyse(self) -> dict[str, float]:
        return {"train_loss": self.data.loss(self.net, self.data.samples).item()}


class Watch:
    """A look every so many steps, where the band expects a schedule of the rate: the one thing it calls each step."""

    def __init__(self, look: Look, every: int, optimizer: torch.optim.Optimizer):
        self.look, self.every, self.optimizer, self.count = look, every, optimizer, 0

    def step(self) -> None:
        self.count += 1
        if self.count % self.every == 0:
            self.look(dss.Path(self.optimizer.param_groups[0]["params"][0].detach().clone()))
