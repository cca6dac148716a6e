"""How much a network's loss changes when only some units of its upper layers are kept.

A network is eps-dropout stable at layer j if the loss moves by at most eps when layers j, j + 1, ..., K - 1 keep some share of
their units, whose outputs are scaled up to make up for the others (Kuditipudi et al. 2019; Shevchenko & Mondelli
2020, for the law by which eps falls with the width).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.objectives.network import NetworkObjective
from dss.objectives.objective import Objective
from dss.objectives.tracing import wiring
from dss.objectives.wiring import Layer, Mixture, Wiring


def dropout_stability(objective: Objective, point: Tensor, keep: float = 0.5, tries: int = 20, seed: int = 0) -> Tensor:
    """Mean change of the loss when hidden layers from j up keep a share of their units, for every j.

    Args:
        objective: a `NetworkObjective` of layers that read one another (no residual sums, no whole-layer norms).
        point: `(p,)`.
        keep: share of the units of a layer that stays, in (0, 1]; at least one does.
        tries: random choices of them.
        seed: of the choices.

    Returns:
        `(layers,)` float64, mean |loss of the reduced network - loss| over the tries; entry j is for hidden layers j and above.

    Raises:
        InputError: another objective or architecture, a share outside (0, 1], or no tries.

    Source: Kuditipudi et al. 2019.
    """
    if not 0 < keep <= 1 or tries < 1:
        raise InputError(f"a share to keep in (0, 1] and at least one try are needed, got keep={keep} and tries={tries}")
    network = objective.unwrapped
    if not isinstance(network, NetworkObjective):
        raise InputError(f"a network is needed to drop units of it, got {type(network).__name__}")
    few = network.data.take(slice(0, 3)).cast(network.space.dtype, network.space.device)
    layout = wiring(network.model, few.inputs)
    hidden = _hidden(layout)
    generator = torch.Generator().manual_seed(seed)
    loss = objective(point[None])
    changes = torch.empty(len(hidden), tries, dtype=torch.float64)
    for attempt in range(tries):
        scales = torch.ones(layout.units + 1, dtype=torch.float64)  # the last entry is that of the data
        for j, layer in reversed(list(enumerate(hidden))):
            scales[layer.rows] = _kept(len(layer.rows), keep, generator)
            changes[j, attempt] = (objective(_reduced(network, layout, point, scales)[None]) - loss).abs().item()
    return changes.mean(1)


def _hidden(layout: Wiring) -> list[Layer]:
    """The layers whose units may be dropped."""
    if layout.head is None or layout.opaque or any(isinstance(part, Mixture) for part in layout.parts):
        raise InputError("layers that read one another through weights alone, and a linear output, are needed to drop units")
    return [layer for layer in layout.layers if layer is not layout.head]


def _kept(width: int, keep: float, generator: torch.Generator) -> Tensor:
    """Factors `(width,)` of a layer's outputs: what is kept makes up for what is not."""
    count = max(1, int(keep * width))
    factors = torch.zeros(width, dtype=torch.float64)
    factors[torch.randperm(width, generator=generator)[:count]] = width / count
    return factors


def _reduced(network: NetworkObjective, layout: Wiring, point: Tensor, scales: Tensor) -> Tensor:
    """The point with the columns of all layers scaled by what is left of the units that they read."""
    reduced = point.clone()
    tensors = network.space.unflatten(reduced)
    for layer in layout.layers:
        weight = tensors[layer.weight]
        for rows, columns in _blocks(layer, len(weight)):
            factors = scales[layer.columns[columns]].to(weight)
            weight[rows] *= factors.view(1, -1, *[1] * (weight.ndim - 2))
    return reduced


def _blocks(layer: Layer, rows: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of each group of a convolution; all of them for other layers."""
    high, wide = rows // layer.groups, len(layer.columns) // layer.groups
    for g in range(layer.groups):
        yield slice(g * high, (g + 1) * high), slice(g * wide, (g + 1) * wide)
