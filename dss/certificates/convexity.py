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

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from dss.base.errors import EnclosureError, InputError
from dss.base.path import Path
from dss.certificates.corners import bound_points
from dss.certificates.equal_units import only_shifts
from dss.certificates.sampling import as_losses
from dss.objectives.judges import Perplexity
from dss.objectives.network import NetworkObjective
from dss.objectives.objective import Objective
from dss.objectives.tracing import wiring
from dss.objectives.wiring import Wiring
from dss.objectives.wrappers import Counted, Recalled, Wrapped

Kind = Literal["convex", "constant"]

# Wrappers that keep convexity: they change nothing, or apply an increasing convex function.
_TRANSPARENT = (Counted, Recalled, Perplexity)
# Losses convex in the outputs, with the options under which they stay so; weights are checked to be >= 0.
_CONVEX: dict[Any, frozenset[str]] = {
    F.cross_entropy: frozenset({"weight", "ignore_index", "label_smoothing", "reduction"}),
    F.nll_loss: frozenset({"ignore_index", "reduction"}),
    F.mse_loss: frozenset({"reduction"}),
    F.l1_loss: frozenset({"reduction"}),
    F.smooth_l1_loss: frozenset({"reduction", "beta"}),
    F.huber_loss: frozenset({"reduction", "delta"}),
    F.binary_cross_entropy_with_logits: frozenset({"reduction", "weight"}),
    F.poisson_nll_loss: frozenset({"reduction", "full"}),
    F.soft_margin_loss: frozenset({"reduction"}),
    F.multi_margin_loss: frozenset({"reduction"}),
    F.multilabel_soft_margin_loss: frozenset({"reduction"}),
}
_MODULES = {
    nn.CrossEntropyLoss: F.cross_entropy,
    nn.MSELoss: F.mse_loss,
    nn.L1Loss: F.l1_loss,
    nn.SmoothL1Loss: F.smooth_l1_loss,
    nn.HuberLoss: F.huber_loss,
    nn.SoftMarginLoss: F.soft_margin_loss,
}
# How far losses inside a piece may seem to be off what the piece's kind says, from rounding alone; and the samples they read.
_ROUNDING = 1e-9
_FEW = 16


@dataclass(frozen=True, eq=False)
class ConvexPieces:
    """The proof: the kind of every piece, and what bounds it.

    Attributes:
        kinds: one for every segment.
        bounds: `(n,)` float64, rigorous bounds on the loss at the beads.
        losses: `(n,)` float64, the same losses as evaluated.
    """

    kinds: tuple[Kind, ...]
    bounds: Tensor
    losses: Tensor

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
        judge: a `NetworkObjective` with a loss convex in the outputs, counted, recalled or as a perplexity.
        path: any path; what its pieces are is found out here.

    Raises:
        EnclosureError: the loss is not known to be convex in the outputs, the layers cannot be read off, a piece is neither
            convex nor constant, or a corner cannot be enclosed; the message says which.

    Source: Kuditipudi et al. 2019, for the bound by corners.
    """
    network = _network(judge)
    check_convex(network.loss, network.data.target)
    layout = _layout(network)
    kinds = []
    for segment, (start, end) in enumerate(pairwise(path.beads)):
        found = kind(layout, network.space.unflatten(start), network.space.unflatten(end))
        if found is None:
            raise EnclosureError(
                f"segment {segment} is neither convex nor constant: other weights move that the outputs depend on"
            )
        kinds.append(found)
    try:
        _check_trace(network, layout, path)
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
        start, end: parameters by name.
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


def check_convex(loss: Any, target: Tensor) -> None:
    """Refuse a loss that is not known to be convex in the outputs.

    Raises:
        EnclosureError: the loss is not on the list, or has options or targets that may make it not convex.
    """
    function, options = _plain(loss)
    if function not in _CONVEX:
        name = getattr(loss, "__name__", type(loss).__name__)
        known = ", ".join(sorted(f.__name__ for f in _CONVEX))
        raise EnclosureError(f"{name} is not known to be convex in the outputs; known are {known}")
    strange = sorted(set(options) - _CONVEX[function])
    if strange:
        raise EnclosureError(f"{function.__name__} is not known to be convex in the outputs with {', '.join(strange)}")
    weight = options.get("weight")
    if isinstance(weight, Tensor) and bool((weight < 0).any()):
        raise EnclosureError(f"{function.__name__} with negative weights is not convex in the outputs")
    if function is F.cross_entropy and target.is_floating_point() and bool((target < 0).any()):
        raise EnclosureError("cross_entropy with negative probabilities as targets is not convex in the outputs")


def _plain(loss: Any) -> tuple[Any, dict[str, Any]]:
    """A loss as a function of torch and its options."""
    if isinstance(loss, partial):
        return (loss.func, loss.keywords) if not loss.args else (loss, {})
    if type(loss) in _MODULES:
        names = ("weight", "ignore_index", "label_smoothing", "reduction", "beta", "delta")
        return _MODULES[type(loss)], {name: value for name in names if (value := getattr(loss, name, None)) is not None}
    try:
        hash(loss)
    except TypeError:
        return None, {}
    return loss, {}


def _network(judge: Objective) -> NetworkObjective:
    """What a judge evaluates, if all that is wrapped around it keeps convexity."""
    while isinstance(judge, Wrapped) and type(judge) in _TRANSPARENT:
        judge = judge.objective
    if not isinstance(judge, NetworkObjective):
        raise EnclosureError(f"a network's loss is needed for a proof by convexity, got {type(judge).__name__}")
    return judge


def _layout(network: NetworkObjective) -> Wiring:
    """The model's wiring, read off with a few samples."""
    few = network.data.take(slice(0, 3)).cast(network.space.dtype, network.space.device)
    try:
        return wiring(network.model, few.inputs)
    except InputError as error:
        raise EnclosureError(str(error)) from error


def _check_trace(network: NetworkObjective, layout: Wiring, path: Path) -> None:
    """Whether what was traced computes what the model does, at both ends.

    Raises:
        EnclosureError: it does not.
    """
    few = network.data.take(slice(0, 3)).cast(torch.float64, path.beads.device)
    buffers = {n: b.double() if b.is_floating_point() else b for n, b in network.model.named_buffers()}
    for bead in (path.beads[0], path.beads[-1]):
        tensors = network.space.unflatten(bead.double()) | buffers
        with torch.no_grad():
            one, other = (functional_call(m, tensors, few.inputs) for m in (network.model, layout.graph))
        if not torch.allclose(one, other, rtol=1e-6, atol=1e-12):
            raise EnclosureError("the layers that were read off the model compute something else than the model does")


def _with_corners(
    judge: Objective, network: NetworkObjective, layout: Wiring, path: Path, kinds: tuple[Kind, ...]
) -> ConvexPieces:
    """Bound the loss at the beads; one bead of several that constant pieces join stands for all of them."""
    group = torch.tensor([0, *(kind == "convex" for kind in kinds)]).cumsum(0)
    first = torch.tensor([0, *(i + 1 for i, kind in enumerate(kinds) if kind == "convex")])
    beads = path.beads[first]
    return ConvexPieces(kinds, _bounds(judge, network, layout, beads)[group], as_losses(judge(beads))[group])


def _bounds(judge: Objective, network: NetworkObjective, layout: Wiring, points: Tensor) -> Tensor:
    """Bounds `(k,)` at points: by a pass made for points where that is known, else by cells that hold one point each."""
    if not _applies_functions(judge):
        try:
            return bound_points(network, layout, points)
        except EnclosureError:
            pass  # the cells know more operations, and name what they lack
    lower, upper = torch.zeros(len(points), dtype=torch.float64), torch.ones(len(points), dtype=torch.float64)
    return judge.enclose(points, points, lower, upper).amax(1)


def _applies_functions(judge: Objective) -> bool:
    """Whether a wrapper changes the losses."""
    while isinstance(judge, Wrapped):
        if type(judge) not in (Counted, Recalled):
            return True
        judge = judge.objective
    return False


def _check_inside(network: NetworkObjective, path: Path, kinds: tuple[Kind, ...]) -> None:
    """Look at three points of every piece on some of the data: losses that contradict its kind mean a misread layout.

    Raises:
        EnclosureError: one does.
    """
    few = network.part(min(_FEW, network.samples))
    double = Path(path.beads.double())
    t = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    segments = torch.arange(len(kinds)).repeat_interleave(3)
    inside = few(double.points(segments, t.repeat(len(kinds)))).view(-1, 3)
    corners = few(double.beads)
    chord = torch.lerp(corners[:-1, None], corners[1:, None], t)
    constant = torch.tensor([kind == "constant" for kind in kinds])[:, None]
    off = torch.where(constant, (inside - chord).abs(), inside - chord)
    wrong = (off > _ROUNDING * (1 + chord.abs())).any(1)
    if wrong.any():
        segment = int(wrong.nonzero()[0])
        raise EnclosureError(f"segment {segment} was read as {kinds[segment]}, but losses on it say otherwise")
