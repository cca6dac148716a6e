"""A proof of a path by auto_LiRPA, run from the user's own checkout of it. None of it is here.

    git clone https://github.com/Verified-Intelligence/auto_LiRPA
    pip install appdirs graphviz        # what it imports besides torch

It bounds a network over a box of *inputs*, so a cell of a segment is put as a network whose input is tau in [-1, 1]: every layer
with weights becomes lin0(h) + tau lin1(h), with the weights at the cell's middle and half their change over the cell, and the
sample goes in beside it. It gives margins of logits as lines above them, affine in tau (`return_A`); the cross-entropy of
margins affine in tau is convex in tau, so the mean over the samples is largest at an end of the cell. That last step is ours.

Its arithmetic is float32 and leaves rounding out, so what it "proves" holds up to rounding only.
"""

import contextlib
import copy
import importlib
import io
import math
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path as File
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import dss

# Its methods, and how many samples are bounded together: all where that is quicker; lines through an image net take memory.
METHODS = {"CROWN": 100, "CROWN-IBP": 1000}
# Cells narrower than this are not cut: then the bound does not shrink with the cell.
NARROWEST = 2.0**-20


def load(checkout: File) -> ModuleType:
    """auto_LiRPA of a checkout.

    Raises:
        InputError: it is not there, or cannot be imported.
    """
    if not (checkout / "auto_LiRPA" / "__init__.py").is_file():
        raise dss.InputError(f"{checkout} is not a checkout of auto_LiRPA: it has no auto_LiRPA/__init__.py; give its top folder")
    sys.path.insert(0, str(checkout))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("auto_LiRPA")
    except ImportError as error:
        raise dss.InputError(f"auto_LiRPA cannot be imported: {error}; it needs: pip install appdirs graphviz") from error


class Moving(nn.Module):
    """A layer whose weights move with tau, which the whole network is told before it runs."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.zero, self.one = copy.deepcopy(layer), copy.deepcopy(layer)
        self.tau: Tensor | None = None

    def forward(self, h: Tensor) -> Tensor:
        assert self.tau is not None, "the cell sets tau"
        tau = self.tau
        for _ in range(h.dim() - 2):
            tau = tau.unsqueeze(-1)
        return self.zero(h) + tau * self.one(h)

    def place(self, zero: dict[str, Tensor], one: dict[str, Tensor]) -> None:
        """Weights at the cell's middle, and half their change over it."""
        with torch.no_grad():
            for layer, values in ((self.zero, zero), (self.one, one)):
                for name, parameter in layer.named_parameters():
                    parameter.copy_(values[name])


class CellNetwork(nn.Module):
    """A network along a cell of a segment: from tau `(n, 1)` and samples to logits.

    Raises:
        InputError: weights that are not those of a linear layer or a convolution.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = copy.deepcopy(model).eval()
        kinds = (nn.Linear, nn.Conv2d)
        self.names = [name for name, module in self.model.named_modules() if isinstance(module, kinds)]
        own = {f"{name}.{part}" for name in self.names for part, _ in self.model.get_submodule(name).named_parameters()}
        if others := sorted(name for name, _ in self.model.named_parameters() if name not in own):
            raise dss.InputError(f"only weights of Linear and Conv2d can move with tau here, got {others[0]}")
        for name in self.names:
            self.model.set_submodule(name, Moving(self.model.get_submodule(name)))

    @property
    def moving(self) -> dict[str, Moving]:
        """The layers by their name in the network."""
        found = {name: self.model.get_submodule(name) for name in self.names}
        return {name: layer for name, layer in found.items() if isinstance(layer, Moving)}

    def forward(self, tau: Tensor, x: Tensor) -> Tensor:
        for layer in self.moving.values():
            layer.tau = tau
        return self.model(x)

    def place(self, start: dict[str, Tensor], end: dict[str, Tensor], lower: float, upper: float) -> None:
        """Stand on the cell [lower, upper] of the segment between two points by parameter name."""
        for name, layer in self.moving.items():
            pairs = {key.removeprefix(name + "."): (start[key], end[key]) for key in start if key.startswith(name + ".")}
            middle, half = (lower + upper) / 2, (upper - lower) / 2
            layer.place({k: torch.lerp(a, b, middle) for k, (a, b) in pairs.items()},
                        {k: half * (b - a) for k, (a, b) in pairs.items()})  # fmt: skip


@dataclass(frozen=True)
class Attempt:
    """How a proof of a path went: cells bounded, processor seconds, and the outcome in words."""

    cells: int
    seconds: float
    outcome: str


class Verifier:
    """Bounds on the mean cross-entropy of samples on cells of segments.

    Args:
        code: auto_LiRPA.
        model: logits from samples `(n, ...)`.
        x, y: samples and labels.
        method: one of `METHODS`.
    """

    def __init__(self, code: ModuleType, model: nn.Module, x: Tensor, y: Tensor, method: str):
        self.network, self.method, chunk = CellNetwork(model), method, METHODS[method]
        self.parts = []
        for xs, ys in zip(x.split(chunk), y.split(chunk)):
            # It prints its progress, and warns of torch's own deprecations.
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                bounded = code.BoundedModule(self.network, (torch.zeros(len(xs), 1), xs), bound_opts={"conv_mode": "matrix"})
            one = torch.ones(len(xs), 1)
            box = code.PerturbationLpNorm(norm=math.inf, x_L=-one, x_U=one)
            self.parts.append((bounded, code.BoundedTensor(0 * one, box), xs, differences(ys)))

    def bound(self, start: dict[str, Tensor], end: dict[str, Tensor], lower: float, upper: float) -> float:
        """A bound on the mean loss for every t in [lower, upper], up to rounding."""
        self.network.place(start, end, lower, upper)
        ends = torch.cat([self._losses(*part) for part in self.parts], 1).mean(1)
        return ends.max().item()

    def _losses(self, bounded: Any, tau: Tensor, x: Tensor, rows: Tensor) -> Tensor:
        """Bounds `(2, n)` on the losses of samples, convex in tau, at both ends of the cell."""
        root, output = bounded.input_name[0], bounded.output_name[0]
        with torch.no_grad():
            *_, lines = bounded.compute_bounds(
                x=(tau, x), C=rows, method=self.method, bound_lower=False, return_A=True, needed_A_dict={output: [root]}
            )
        slope, offset = lines[output][root]["uA"].flatten(1), lines[output][root]["ubias"].flatten(1)
        margins = torch.stack([offset - slope, offset + slope]).double()
        return nn.functional.softplus(margins.logsumexp(2))


def differences(labels: Tensor, classes: int = 10) -> Tensor:
    """For every sample the rows `(n, classes - 1, classes)` that give the other logits less the label's."""
    unit = torch.eye(classes)
    others = torch.stack([unit[torch.arange(classes) != label] for label in labels])
    return others - unit[labels][:, None]


def attempt(verifier: Verifier, space: dss.ParameterSpace, beads: Tensor, threshold: float, seconds: float) -> Attempt:
    """Halve cells until the bound on each is at or below the threshold."""
    points = [space.unflatten(bead) for bead in beads]
    began, cells, waiting = time.process_time(), 0, [(i, 0.0, 1.0) for i in range(len(beads) - 1)]
    while waiting:
        segment, lower, upper = waiting.pop()
        bound = verifier.bound(points[segment], points[segment + 1], lower, upper)
        cells, middle = cells + 1, (lower + upper) / 2
        if not bound <= threshold:
            waiting += [(segment, middle, upper), (segment, lower, middle)]
        spent = time.process_time() - began
        if waiting and (spent > seconds or upper - lower < NARROWEST):
            left = sum(upper - lower for _, lower, upper in waiting) / (len(beads) - 1)
            return Attempt(cells, spent, f"stopped, {1 - left:.0%} of the path proved")
    return Attempt(cells, time.process_time() - began, "proved")
