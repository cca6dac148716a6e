"""Which unit of a network reads which.

A *unit* is one output of a weighted layer: a row of a `Linear`, a channel of a convolution. `dss.objectives.tracing` reads the
wiring off a model; here it is asked which units the outputs depend on, given the zeros among the weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

DATA = -1
"""The owner of what is computed from the data alone."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A matrix of weights between units: row i is unit `rows[i]`, column j reads unit `columns[j]` (or `DATA`).

    Attributes:
        weight, bias: parameter names; bias may be None.
        rows: `(out,)` ids.
        columns: `(in,)` ids; a flattened channel has a column for every place.
        groups: of a convolution.
        node: of the traced graph.
    """

    weight: str
    bias: str | None
    rows: Tensor
    columns: Tensor
    groups: int
    node: fx.Node

    def entries(self, weight: Tensor) -> Tensor:
        """`(out, in)`, whether any weight `(out, in / groups, ...)` from a column to a row is nonzero."""
        used = (weight != 0).flatten(2).any(2) if weight.ndim > 2 else weight != 0
        if self.groups == 1:
            return used
        blocks = used.view(self.groups, -1, used.shape[1])
        return torch.block_diag(*blocks.float()) > 0


@dataclass(frozen=True, eq=False)
class Mixture:
    """Units that are computed from others without weights of their own that are understood: `rows[i]` reads `columns`.

    Attributes:
        rows: `(m,)` ids.
        columns: `(m, r)` ids, `DATA` included.
    """

    rows: Tensor
    columns: Tensor


@dataclass(frozen=True, eq=False)
class Norm:
    """Scale and shift of a BatchNorm, which belong to the units they act on.

    Attributes:
        name: of the module.
        weight, bias: parameter names; None where there is none.
        units: `(c,)` ids.
    """

    name: str
    weight: str | None
    bias: str | None
    units: Tensor


@dataclass(eq=False)
class Wiring:
    """Everything that the outputs depend on, in the order of computation.

    Attributes:
        graph: the traced model.
        units: how many ids there are.
        parts: layers and mixtures, in the order of computation.
        norms: scales and shifts of units.
        opaque: parameters in whose role nothing is known.
        output: ids that the outputs belong to.
        head: the layer whose rows are the outputs, moved at most, or whose logarithm of a softmax they are; None where
            something else stands between.
        is_log_probability: whether it is the latter.
    """

    graph: fx.GraphModule
    units: int = 0
    parts: list[Layer | Mixture] = field(default_factory=list)
    norms: list[Norm] = field(default_factory=list)
    opaque: set[str] = field(default_factory=set)
    output: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    head: Layer | None = None
    is_log_probability: bool = False

    @property
    def layers(self) -> list[Layer]:
        """The weighted layers, in the order of computation."""
        return [part for part in self.parts if isinstance(part, Layer)]

    @property
    def known(self) -> set[str]:
        """Parameters whose role is known."""
        layers = {name for layer in self.layers for name in (layer.weight, layer.bias) if name is not None}
        return layers | {name for norm in self.norms for name in (norm.weight, norm.bias) if name is not None}

    def read(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Which units `(units,)` the outputs depend on through nonzero weights, given all nonzero masks or weights.

        Args:
            weights: by parameter name; where an entry is zero, its row does not read its column.
        """
        live = torch.zeros(self.units + 1, dtype=torch.bool)  # the last entry stands for DATA = -1
        live[self.output] = True
        for part in reversed(self.parts):
            if isinstance(part, Mixture):
                live[part.columns[live[part.rows]]] = True
            else:
                used = part.entries(weights[part.weight])[live[part.rows]].any(0)
                live[part.columns[used]] = True
        return live[:-1]
