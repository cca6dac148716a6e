"""The published code of LLPF (Tian et al. 2025, arXiv:2505.02604), run from the user's own checkout of it. None of it is here.

    git clone https://github.com/twoentartian/DFL_torch
    python -m benchmarks.rivals digits:0.35 --llpf DFL_torch

A model walks from one end to the other: each tick moves every layer a step towards the other end, scales the layer back to the
variance that it has at the start, trains a few minibatches by plain SGD, and scales again. Where it stood are the beads.

Theirs are the move and the scaling (`py_src/model_average.py`, `py_src/model_variance_correct.py`), in the order, and with the step,
of their own configuration of LeNet-5 (`find_high_accuracy_path_v2_config_lenet5_mnist_m2m.py`). Ours is the loop around them, since
theirs knows its own data sets only. A tick trains on until the loss of the last minibatches is low, as their other configurations do;
the walk ends as soon as the straight rest of the way passes, where theirs would take all its ticks.
"""

import sys
from collections import deque
from dataclasses import dataclass
from importlib import import_module
from math import inf
from pathlib import Path as File
from statistics import fmean
from types import SimpleNamespace

import torch
from torch import Tensor, nn

import dss
from benchmarks.published import Data, Look, PublishedFinder, highest

PACKAGE, PARTS = "py_src", ("model_average", "model_variance_correct")
# Steps of a layer in a tick, and rates of SGD: their configuration of LeNet-5, and the only one of four quicker settings, tried on one
# pair of digits, whose path passed.
SETTINGS = {"LLPF, published": (0.001, 0.001), "LLPF, published, quicker": (0.01, 0.03)}
# Of their configuration: ticks at most, minibatches of a tick at least.
TICKS, LEAST = 30_000, 5
# Minibatches of a tick at most, while the mean loss of the last `LEAST` is above this share of the threshold.
MOST, LOW = 50, 0.5
# How far a layer goes from bead to bead: the straight line between them follows the walk.
BETWEEN = 1.0


def finders(task: dss.Task, checkout: File, seconds: float = inf) -> dict[str, "PublishedMoves"]:
    """The walk at two settings, by label.

    Raises:
        InputError: no checkout, or it cannot be imported.
    """
    code = code_of(checkout)
    return {label: PublishedMoves(task, code, seconds, *setting) for label, setting in SETTINGS.items()}


def code_of(checkout: File) -> SimpleNamespace:
    """The modules that are theirs, as attributes.

    Raises:
        InputError: a file is missing or cannot be imported.
    """
    for part in PARTS:
        if not (checkout / PACKAGE / f"{part}.py").is_file():
            words = f"it has no {PACKAGE}/{part}.py; give the top folder of a checkout"
            raise dss.InputError(f"{checkout} is not a checkout of the published code: {words}")
    sys.path.insert(0, str(checkout))
    try:
        return SimpleNamespace(**{part: import_module(f"{PACKAGE}.{part}") for part in PARTS})
    except (ImportError, SyntaxError) as error:
        raise dss.InputError(f"{checkout} cannot be imported: {error}; install what it needs") from error
    finally:
        sys.path.remove(str(checkout))


@dataclass(frozen=True, eq=False)
class PublishedMoves(PublishedFinder):
    """A model that walks from one end to the other.

    Attributes:
        step: of a layer, in one tick.
        rate: of SGD.
    """

    step: float
    rate: float

    def search(self, problem: dss.Problem, look: Look) -> None:
        data, space = Data(self.task, problem), dss.ParameterSpace.of(self.task.model)
        net, end = self.task.fresh_model().to(problem.start), space.unflatten(problem.end)
        net.load_state_dict(space.unflatten(problem.start))
        optimizer, variance = torch.optim.SGD(net.parameters(), lr=self.rate), self.variance_of(net.state_dict())
        beads, apart = [problem.start], max(1, round(BETWEEN / self.step))
        for tick in range(1, TICKS + 1):
            self.move(net, end, variance)
            train(net, data, optimizer, LOW * problem.threshold)
            self.scale(net, variance)
            if tick % apart == 0:
                beads.append(space.flatten(net.state_dict()))
                rest = dss.Path.straight(beads[-1], problem.end)
                if look.late or highest(problem, rest).item() <= problem.threshold:
                    look(dss.Path([*beads, problem.end]))

    def variance_of(self, state: dict[str, Tensor]) -> dict[str, float]:
        """Variances of the layers of a state, as theirs records them."""
        theirs = self.code.model_variance_correct
        corrector = theirs.VarianceCorrector(theirs.VarianceCorrectionType.FollowOthers)
        corrector.add_variance(state)
        return corrector.get_variance()

    def move(self, net: nn.Module, end: dict[str, Tensor], variance: dict[str, float]) -> None:
        """Every layer goes a step towards the end, and is scaled back."""
        move = self.code.model_average.move_model_state_toward
        net.load_state_dict(move(net.state_dict(), end, self.step, 0, enable_merge_bias_with_weight=True, ignore_layers=[]))
        self.scale(net, variance)

    def scale(self, net: nn.Module, variance: dict[str, float]) -> None:
        theirs = self.code.model_variance_correct.VarianceCorrector
        net.load_state_dict(theirs.scale_model_stat_to_variance(net.state_dict(), variance))


def train(net: nn.Module, data: Data, optimizer: torch.optim.Optimizer, low: float) -> None:
    """Minibatches until the mean loss of the last few is low."""
    recent: deque[float] = deque(maxlen=LEAST)
    for _ in range(MOST):
        optimizer.zero_grad()
        loss = data.loss(net, data.minibatch())
        loss.backward()
        optimizer.step()
        recent.append(loss.item())
        if len(recent) == LEAST and fmean(recent) <= low:
            break
