"""Random networks against their bounds: is a loss ever above what was proved?

    python -m benchmarks.soundness --minutes 5 [--seed 0] [--points 256]

Networks are put together from all operations that can be enclosed (`benchmarks.operations`), writes in place, views, shared
layers, residuals and branches included, with random losses, random segments and cells of any width. The oracle is the
network itself in float64, called at points of the cells by `torch.func.functional_call`: it knows nothing of enclosures.
Then every operation is measured alone: how far the bound lies over the largest loss, in shares of the range of losses.
"""

import argparse
import math
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

import dss
from benchmarks.operations import OPERATIONS, Draw, Shape, Step
from benchmarks.operations.losses import Loss, losses_of

GRAIN = 2.0**-45
"""Of the ends of cells whose samples are bounded apart."""

CELLS = 4
"""Cells of one network."""

MOST = 48
"""Entries of one sample at most between two layers."""

ROUNDING, ROOM = 1e-11, 64
"""What float64 may lose of a loss near 1, and of what one unit of rounding per parameter does, as in `dss.certificates.tripwire`."""

CAST = 1e-3
"""The same for networks that round to float32 on their way, which bounds leave out."""

TRIES = 12
"""Operations that are tried for every layer: not all take what the layer before gives."""

WIDTHS = (1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-6)
STARTS: tuple[Shape, ...] = ((6,), (3, 4), (2, 4, 4))


class Net(nn.Module):
    """A chain of random steps and a linear layer. `how` says of each step whether it is used as it is, added, or used twice."""

    def __init__(self, draw: Draw, names: list[str], depth: int, classes: int):
        super().__init__()
        self.start = shape = draw.choice(STARTS)
        self.used: list[str] = []
        self.steps: list[tuple[Step, str, int]] = []
        self.weights = nn.ParameterList()
        for _ in range(TRIES * depth):
            if len(self.steps) == depth:
                break
            name = draw.choice(names)
            found = self._tried(draw, name, shape)
            if found is not None:
                self.used.append(name)
                shape = found
        self.head = nn.Linear(math.prod(shape), classes, dtype=torch.float64)
        for part in self.head.parameters():  # by the draw, as all else is: a seed gives the same networks everywhere
            part.data = draw.tensor(*part.shape).double() / math.sqrt(math.prod(shape))

    def _tried(self, draw: Draw, name: str, shape: Shape) -> Shape | None:
        """Add a step if it takes such samples and gives finite ones; the new shape."""
        step = OPERATIONS[name](draw, shape)
        if step is None:
            return None
        weights = [draw.tensor(*each).double() * (0.7 if len(each) < 2 else 1 / math.sqrt(each[-1])) for each in step.parameters]
        try:
            out = step.function(draw.tensor(2, *shape).double(), *weights)
        except (RuntimeError, ValueError, IndexError):
            return None
        new = tuple(out.shape[1:])
        if len(out) != 2 or not 1 <= len(new) <= 3 or not 0 < math.prod(new) <= MOST or not out.isfinite().all():
            return None
        how = draw.choice(("once", "once", "added", "twice")) if new == shape else "once"
        self.steps.append((step, how, len(self.weights)))
        self.weights.extend(nn.Parameter(weight) for weight in weights)
        return new

    @property
    def rounds(self) -> bool:
        """Whether it rounds to float32."""
        return any(step.rounds for step, *_ in self.steps)

    def forward(self, h: Tensor) -> Tensor:
        for step, how, first in self.steps:
            weights = [self.weights[first + i] for i in range(len(step.parameters))]
            out = step.function(h, *weights)
            h = step.function(out, *weights) if how == "twice" else h + out if how == "added" else out
        return self.head(h.flatten(1))


@dataclass
class Tally:
    """What a campaign has seen; networks are broken that torch itself refuses (a view of what does not lie in one piece)."""

    cases: int = 0
    broken: int = 0
    points: int = 0
    infinite: int = 0
    violations: list[str] = field(default_factory=list)
    refused: Counter = field(default_factory=Counter)
    used: Counter = field(default_factory=Counter)


@dataclass
class Case:
    """A network with a loss, two samples and cells of segments."""

    net: Net
    loss: Loss
    label: str
    inputs: Tensor
    target: Tensor
    start: dict[str, Tensor]
    end: dict[str, Tensor]
    lower: Tensor
    upper: Tensor

    def bounds(self, *, apart: bool = False, **options) -> Tensor:
        """`(k, c)`: the values at the corners; `apart`, of samples bounded each alone, by passes recorded after the second cell."""
        count = len(self.inputs)
        if apart:
            options |= {"index": torch.arange(count).expand(CELLS, count), "blocks": dss.enclosure.Blocks(1, most=count)}
        found = dss.enclosure.enclose(
            self.net, self.loss, self.start, self.end, self.lower, self.upper, self.inputs, self.target, **options
        )
        return torch.stack([dss.enclosure.weighted_mean(values, torch.ones(count)) for values in found]) if apart else found

    def points(self, taus: Tensor) -> dict[str, Tensor]:
        """Parameters `(k * n, *shape)` at n places of every cell."""
        t = (self.lower + self.upper)[:, None] / 2 + taus * (self.upper - self.lower)[:, None] / 2
        each = {}
        for name, a in self.start.items():
            at = t.view(*t.shape, *[1] * (a.dim() - 1))
            each[name] = (a[:, None] + at * (self.end[name] - a)[:, None]).flatten(0, 1)
        return each

    def losses(self, points: dict[str, Tensor]) -> Tensor:
        """The network's own, one after another where it cannot be batched."""

        def one(point: dict[str, Tensor]) -> Tensor:
            return self.loss(functional_call(self.net, point, (self.inputs.clone(),)), self.target).double()

        with torch.no_grad():
            try:
                return vmap(one)(points)
            except (RuntimeError, ValueError):
                count = len(next(iter(points.values())))
                return torch.stack([one({name: value[i] for name, value in points.items()}) for i in range(count)])


def drawn(draw: Draw, names: list[str], depth: int) -> Case:
    """A random case."""
    classes = draw.randrange(1, 5)
    net = Net(draw, names, depth, classes).eval()
    label, (loss, target) = draw.choice(list(losses_of(draw, classes).items()))
    count, scale = draw.choice((1, 2)), draw.choice((0.01, 0.3, 1.0))
    start = {
        name: value.detach() * draw.choice((1.0, 1.5)) + draw.tensor(CELLS, *value.shape).double() * 0.1
        for name, value in net.named_parameters()
    }
    end = {name: value + scale * draw.tensor(*value.shape).double() for name, value in start.items()}
    widths = torch.tensor([draw.choice(WIDTHS) for _ in range(CELLS)], dtype=torch.float64)
    lower = torch.tensor([draw.random() for _ in range(CELLS)], dtype=torch.float64) * (1 - widths)
    # Cells of samples apart begin and end so; rounded down, they stay in [0, 1].
    lower, widths = ((part / GRAIN).floor() * GRAIN for part in (lower, widths))
    inputs = draw.tensor(count, *net.start).double() * draw.choice((0.1, 1.0, 2.0))
    return Case(net, loss, label, inputs, target[:count], start, end, lower, lower + widths)


def under_corners(values: Tensor, taus: Tensor) -> Tensor:
    """The most that a function convex in (tau, q) with these values `(k, 6)` can be at `(tau, 2 tau^2 - 1)`, for taus `(k, n)`."""
    corners = torch.tensor(dss.enclosure.CORNERS, dtype=torch.float64)
    i = torch.searchsorted(corners[1:-1, 0].contiguous(), taus)
    share = (taus - corners[i, 0]) / (corners[i + 1, 0] - corners[i, 0])
    low = (1 - share) * values.gather(1, i) + share * values.gather(1, i + 1)
    floor = (1 - share) * corners[i, 1] + share * corners[i + 1, 1]
    high = ((1 - taus) * values[:, :1] + (1 + taus) * values[:, -1:]) / 2
    part = ((2 * taus**2 - 1 - floor) / (1 - floor).clamp(min=1e-12)).clamp(0, 1)
    return torch.where(floor >= 1, low, (1 - part) * low + part * high)


def judged(case: Case, draw: Draw, points: int, tally: Tally) -> None:
    """Bound a case and look for a loss above its bound."""
    try:
        options: dict[str, Any] = {
            "rough": draw.random() < 0.8,
            "third": draw.random() < 0.5,
            "inside": draw.random() < 0.5,
        }
        apart = draw.random() < 0.3
        if not apart and draw.random() < 0.3:  # samples one by one
            options["fixed"] = (0, 1)
        bounds = case.bounds(apart=apart, **options)
    except dss.EnclosureError as error:
        tally.refused[str(error).partition(", called in")[0][:110]] += 1
        return
    taus = torch.rand(CELLS, points, generator=torch.Generator().manual_seed(draw.getrandbits(62)), dtype=torch.float64) * 2 - 1
    taus[:, :3] = torch.tensor([-1.0, 0.0, 1.0])
    places = case.points(taus)
    try:
        losses, known = case.losses(places).view(CELLS, -1), bounds.isfinite().all(1)
    except RuntimeError:
        tally.broken += 1
        return
    tally.points, tally.infinite = tally.points + losses.numel(), tally.infinite + int((~known).sum())
    tally.used.update(case.net.used)
    excess = losses - torch.where(known[:, None], under_corners(bounds, taus), torch.inf)
    excess = torch.where(known[:, None], excess.nan_to_num(nan=torch.inf), -torch.inf)
    over = excess - (CAST if case.net.rounds else ROUNDING) * (1 + losses.abs())
    if over.max() > 0:
        worst = int(over.argmax())
        if not over.flatten()[worst] <= _explained(case, {name: value[worst] for name, value in places.items()}):
            tally.violations.append(f"{case.label} of {' > '.join(case.net.used)}: over by {excess.flatten()[worst].item():.3e}")


def _explained(case: Case, point: dict[str, Tensor]) -> float:
    """What rounding may be, by the change of the loss when the parameters are rounded at random."""
    generator, unit = torch.Generator().manual_seed(0), torch.finfo(torch.float64).eps
    moved = {}
    for name, value in point.items():
        signs = torch.randint(0, 2, (8, *value.shape), generator=generator) * 2 - 1
        moved[name] = torch.cat([value[None], value * (1 + unit * signs)])
    found = case.losses(moved)
    return ROOM * (found - found[0]).abs().max().item()


def campaign(seconds: float, seed: int, points: int, names: list[str] | None = None, most: int | None = None) -> Tally:
    """Random cases until the time is over, or `most` of them were seen."""
    tally, began = Tally(), time.monotonic()
    names = sorted(names or OPERATIONS)
    while time.monotonic() - began < seconds and (most is None or tally.cases < most):
        draw = Draw(f"{seed} {tally.cases}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch tells of batching rules that it lacks
            judged(drawn(draw, names, draw.randrange(1, 8)), draw, points, tally)
        tally.cases += 1
    return tally


def tightness(name: str, seed: int, tries: int = 8) -> tuple[float, float]:
    """Median and largest excess of networks of one operation, on cells a tenth of a segment wide."""
    found = []
    for i in range(tries):
        draw = Draw(f"{name} {seed} {i}")
        try:
            case = drawn(draw, [name], 1)
            case.loss, case.lower, case.upper = (
                (lambda o, t: o.tanh().mean()),
                torch.full((CELLS,), 0.4).double(),
                torch.full((CELLS,), 0.5).double(),
            )
            bounds = case.bounds().amax(1)
        except dss.EnclosureError:
            continue
        losses = case.losses(case.points(torch.linspace(-1, 1, 33, dtype=torch.float64).expand(CELLS, -1))).view(CELLS, -1)
        most, least = losses.amax(1), losses.amin(1)
        found += ((bounds - most) / (most - least).clamp(min=1e-9)).tolist()
    ordered = sorted(found)
    return (ordered[len(ordered) // 2], ordered[-1]) if found else (math.nan, math.nan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="of the campaign")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--points", type=int, default=256, help="losses per cell")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="operations to combine; all by default")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    tally = campaign(60 * options.minutes, options.seed, options.points, options.only)
    print(f"cases {tally.cases}, broken {tally.broken}, refused {tally.refused.total()}, points {tally.points}, "
          f"cells without a bound {tally.infinite}, violations {len(tally.violations)}")  # fmt: skip
    for line in tally.violations[:20]:
        print("  VIOLATION", line)
    for reason, count in tally.refused.most_common(20):
        print(f"  refused {count}: {reason}")
    print(f"{'operation':34s} {'used':>6s} {'median':>9s} {'largest':>9s}")
    for name in sorted(options.only or OPERATIONS):
        middle, most = tightness(name, options.seed)
        print(f"{name:34s} {tally.used[name]:6d} {middle:9.2g} {most:9.2g}")
    raise SystemExit(bool(tally.violations))


if __name__ == "__main__":
    main()
