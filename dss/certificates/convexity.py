"""Proof by convexity: a path whose every piece is convex or constant is nowhere above its corners.

On a piece between two beads the loss is

- *convex* in the place t where, of all parameters that the outputs depend on, only weight and bias of the last layer move:
  the outputs are affine in t, and the loss is convex in the outputs;
- *constant* where only units move that nobody reads (every weight from them to a unit that is read is exactly zero at both
  beads, and so on the whole piece), or weight moves between exactly equal units.

Both are read off the model's wiring and the beads alone, so the proof holds for beads of any origin, and for a network of any
depth; the bound is the largest of the corners' enclosed losses. That halves of a network can be exchanged along such pieces
is due to Kuditipudi et al. (2019).
"""

from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.func import functional_call

from dss.base.errors import EnclosureError, InputError
from dss.base.path import Path
from dss.certificates.convex_losses import check_convex
from dss.certificates.corners import bound_points
from dss.certificates.curvature import AFFINE, CONCAVE
from dss.certificates.equal_units import only_shifts
from dss.certificates.sampling import as_losses
from dss.objectives.judges import Perplexity
from dss.objectives.network import NetworkObjective
from dss.objectives.network.batches import describe
from dss.objectives.network.data import Samples
from dss.objectives.objective import Objective
from dss.objectives.tracing import wiring
from dss.objectives.wiring import Wiring
from dss.objectives.wrappers import Counted, Recalled, Wrapped

Kind = Literal["convex", "constant"]

# Wrappers that keep convexity: they change nothing, or apply an increasing convex function.
_TRANSPARENT = (Counted, Recalled, Perplexity)
# How far losses inside a piece may seem to be off what the piece's kind says, from rounding alone; and the samples they read.
_ROUNDING = 1e-9
# How far a loss that is computed in the arithmetic of the beads may be off its bound by rounding.
_SINGLE = 1e-4
_FEW = 16
# Samples on which a model is traced; more than one, for samples must stay apart.
_TRACED = 3


@dataclass(frozen=True, eq=False)
class ConvexPieces:
    """The proof: the kind of every piece, and what bounds it.

    Attributes:
        kinds: one for every segment.
        bounds: `(n,)` float64, rigorous bounds on the loss at the beads; infinite where there are none.
        losses: `(n,)` float64, the same losses as evaluated.
        obstacle: why the corners could not be enclosed; None if they were. The path is then no higher than its corners, but how
            high they are is known as evaluated only.
    """

    kinds: tuple[Kind, ...]
    bounds: Tensor
    losses: Tensor
    obstacle: str | None = None

    @property
    def upper(self) -> float:
        """No point of the path has a larger loss."""
        return self.bounds.max().item()

    @property
    def cells(self) -> Tensor:
        """`(n - 1, 4)`: every segment with its bound, as the cells of a proof."""
        count = len(self.kinds)
        highest = torch.maximum(self.bounds[:-1], self.bounds[1:])
        return torch.stack([torch.arange(count, dtype=torch.float64), torch.zeros(count), torch.ones(count), highest], 1).double()


def prove_by_convexity(judge: Objective, path: Path) -> ConvexPieces:
    """Bound the loss on a whole path by its corners, if its pieces allow it.

    Args:
        judge: a `NetworkObjective` with a loss convex in the outputs, counted, recalled or as a perplexity. A recalled one
            remembers what was proved: a finder and the certificate of its path ask the same.
        path: any path; what its pieces are is found out here.

    Raises:
        EnclosureError: the loss is not known to be convex in the outputs, the layers cannot be read off, or a piece is neither
            convex nor constant; the message says which.

    Source: Kuditipudi et al. 2019, for the bound by corners.
    """
    known = judge.proofs if isinstance(judge, Recalled) else {}
    if path.digests not in known:
        known[path.digests] = _proved(judge, path)
    return known[path.digests]


def _proved(judge: Objective, path: Path) -> ConvexPieces:
    """What `prove_by_convexity` returns, and raises."""
    network = _network(judge)
    few = _few(network)
    layout = _layout(network, few)
    check_convex(network.loss, network.data.target, CONCAVE if layout.is_log_probability else AFFINE)
    fixed = network.constants_like(path.beads)
    kinds = []
    for segment, (start, end) in enumerate(pairwise(path.beads)):
        found = kind(layout, fixed | network.space.unflatten(start), fixed | network.space.unflatten(end))
        if found is None:
            raise EnclosureError(
                f"segment {segment} is neither convex nor constant: other weights move that the outputs depend on"
            )
        kinds.append(found)
    try:
        _check_trace(network, layout, path, few)
        _check_inside(network, path, tuple(kinds))
    except RuntimeError as error:  # such as a constant of the model's own that is no float64
        raise EnclosureError(f"the model cannot be evaluated in float64: {error}") from error
    return _with_corners(judge, network, layout, path, tuple(kinds))


def kind(layout: Wiring, start: dict[str, Tensor], end: dict[str, Tensor]) -> Kind | None:
    """What a straight piece is, from its two beads alone; None if it is neither convex nor constant.

    A weight that is zero at both beads is zero between them: whoever reads a unit at neither bead reads it nowhere. Weight
    that moves between equal units changes nothing either.

    Args:
        layout: of the model.
        start, end: all parameters by name, those that cannot move too.
    """
    moved = {name: value != end[name] for name, value in start.items()}
    if any(moved[name].any() for name in moved if name in layout.opaque or name not in layout.known):
        return None
    read = layout.read({layer.weight: (start[layer.weight] != 0) | (end[layer.weight] != 0) for layer in layout.layers})
    owners = [(name, layer.rows, layer) for layer in layout.layers for name in (layer.weight, layer.bias)]
    owners += [(name, norm.units, None) for norm in layout.norms for name in (norm.weight, norm.bias)]
    moving = [layer for name, units, layer in owners if name is not None and moved[name][read[units]].any()]
    inner = [layer for layer in moving if layer is None or layer is not layout.head]
    if any(layer is None or not only_shifts(layout, layer, start, end, read) for layer in inner):
        return None
    return "convex" if len(inner) < len(moving) else "constant"


def _network(judge: Objective) -> NetworkObjective:
    """What a judge evaluates, if all that is wrapped around it keeps convexity."""
    while isinstance(judge, Wrapped) and type(judge) in _TRANSPARENT:
        judge = judge.objective
    if not isinstance(judge, NetworkObjective):
        raise EnclosureError(f"a network's loss is needed for a proof by convexity, got {type(judge).__name__}")
    return judge


def _few(network: NetworkObjective) -> Samples:
    """The samples on which a model is traced."""
    if network.data.obstacle is not None:
        raise EnclosureError(network.data.obstacle)
    if not isinstance(network.data.target, Tensor):
        raise EnclosureError(f"a target that is {describe(network.data.target)} is not followed")
    return network.data.take(torch.arange(min(_TRACED, network.samples)))


def _layout(network: NetworkObjective, few: Samples) -> Wiring:
    """The model's wiring."""
    try:
        return wiring(network.model, few.cast(network.space.dtype, network.space.device).inputs)
    except InputError as error:
        raise EnclosureError(str(error)) from error


def _check_trace(network: NetworkObjective, layout: Wiring, path: Path, few: Samples) -> None:
    """Compare model and trace at all beads, and at random points besides.

    Code that asks for the value of a parameter while it is traced leaves a number in the trace, and the parameter is lost; beads
    may be forged such that it does not show at them. At random points, where everything differs, it does.

    Raises:
        EnclosureError: they compute different outputs.
    """
    beads = path.beads.double()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, beads.shape[1], generator=generator, dtype=torch.float64).to(beads.device)
    random = beads[[0, -1]] + noise * (0.1 + beads[[0, -1]].abs().mean())
    inputs = few.cast(torch.float64, beads.device).inputs
    constants = network.constants_like(beads)
    for point in (*beads, *random):
        tensors = network.space.unflatten(point) | constants
        with torch.no_grad():
            one, other = (functional_call(m, tensors, inputs) for m in (network.model, layout.graph))
        if not torch.allclose(one, other, rtol=1e-6, atol=1e-12, equal_nan=True):
            raise EnclosureError("the layers that were read off the model compute something else than the model does")


def _with_corners(
    judge: Objective, network: NetworkObjective, layout: Wiring, path: Path, kinds: tuple[Kind, ...]
) -> ConvexPieces:
    """Bound the loss at the beads; one bead of several that constant pieces join stands for all of them."""
    group = torch.tensor([0, *(kind == "convex" for kind in kinds)]).cumsum(0)
    first = torch.tensor([0, *(i + 1 for i, kind in enumerate(kinds) if kind == "convex")])
    beads = path.beads[first]
    losses = as_losses(judge(beads))
    try:
        bounds = _bounds(judge, network, layout, beads, losses)
    except EnclosureError as error:
        return ConvexPieces(kinds, torch.full((len(path),), torch.inf, dtype=torch.float64), losses[group], str(error))
    if (losses > bounds + _SINGLE * (1 + losses.abs())).any():
        raise EnclosureError("a computed loss lies above its bound: the enclosed network is not the one that is judged")
    return ConvexPieces(kinds, bounds[group], losses[group])


def _bounds(judge: Objective, network: NetworkObjective, layout: Wiring, points: Tensor, losses: Tensor) -> Tensor:
    """Bounds `(k,)` at points: by a pass made for points where that is known and close, else by cells that hold one point each."""
    bounds = torch.full_like(losses, torch.inf)
    if not _applies_functions(judge):
        with suppress(EnclosureError):  # the cells know more operations, and name what they lack
            bounds = bound_points(network, layout, points)
    # One error a layer is multiplied by the norm of every later one: in deep networks it may become all there is.
    far = bounds > losses + _SINGLE * (1 + losses.abs())
    if far.any():
        lower, upper = torch.zeros(int(far.sum()), dtype=torch.float64), torch.ones(int(far.sum()), dtype=torch.float64)
        bounds[far] = torch.minimum(bounds[far], judge.enclose(points[far], points[far], lower, upper).amax(1))
    return bounds


def _applies_functions(judge: Objective) -> bool:
    """Whether a wrapper changes the losses."""
    while isinstance(judge, Wrapped):
        if type(judge) not in (Counted, Recalled):
            return True
        judge = judge.objective
    return False


def _check_inside(network: NetworkObjective, path: Path, kinds: tuple[Kind, ...]) -> None:
    """Look inside every piece on some of the data: losses that contradict its kind mean a misread layout.

    Where statistics are recalibrated on all the data for every point, in the middle alone.

    Raises:
        EnclosureError: one does.
    """
    few = network.part(min(_FEW, network.samples)) or network
    double = Path(path.beads.double())
    t = torch.tensor([0.5] if network.recalibrates else [0.25, 0.5, 0.75], dtype=torch.float64)
    segments = torch.arange(len(kinds)).repeat_interleave(len(t))
    inside = few(double.points(segments, t.repeat(len(kinds)))).view(-1, len(t))
    corners = few(double.beads)
    chord = torch.lerp(corners[:-1, None], corners[1:, None], t)
    constant = torch.tensor([kind == "constant" for kind in kinds])[:, None]
    off = torch.where(constant, (inside - chord).abs(), inside - chord)
    wrong = (off > _ROUNDING * (1 + chord.abs())).any(1)
    if wrong.any():
        segment = int(wrong.nonzero()[0])
        raise EnclosureError(f"segment {segment} was read as {kinds[segment]}, but losses on it say otherwise")
