"""Weight that moves between equal units changes nothing: what they compute is the same, whoever of them is read."""

from collections import defaultdict
from fractions import Fraction

import torch
from torch import Tensor

from dss.objectives.wiring import Layer, Wiring

Tensors = dict[str, Tensor]


def only_shifts(layout: Wiring, layer: Layer, start: Tensors, end: Tensors, read: Tensor) -> bool:
    """Whether all that moves in a layer's rows that are read is weight between units that are equal on the whole piece.

    Units are equal if their incoming weights and biases are the same numbers at both beads and do not move. The weights from
    each set of equal units to a row must have the same sum at both beads, exactly.

    Args:
        layout: of the model.
        layer: whose rows move.
        start, end: parameters by name at the two beads.
        read: `(units,)`, which units the outputs depend on.
    """
    if layer.groups != 1 or len(layer.columns.unique()) != len(layer.columns):
        return False  # of a flattened channel, columns of other places would have to be told apart
    rows = read[layer.rows]
    if layer.bias is not None and bool((start[layer.bias] != end[layer.bias])[rows].any()):
        return False
    names = _names(layout, layer, start, end)
    before, after = (tensors[layer.weight].flatten(2) if tensors[layer.weight].ndim > 2 else tensors[layer.weight][..., None]
                     for tensors in (start, end))  # fmt: skip
    changed = (before != after) & rows[:, None, None]
    if any(isinstance(names[column], int) for column in changed.any(2).any(0).nonzero()[:, 0].tolist()):
        return False  # as on all paths that were searched for: sums over millions of weights are not worth taking
    sums: dict[tuple, Fraction] = defaultdict(Fraction)
    for row, column, place in changed.nonzero().tolist():
        change = Fraction(after[row, column, place].item()) - Fraction(before[row, column, place].item())
        sums[row, names[column], place] += change
    return not any(sums.values())


def _names(layout: Wiring, layer: Layer, start: Tensors, end: Tensors) -> list[object]:
    """For each column, what units equal to the one it reads have in common; a name of its own where there is none."""
    normed = {int(unit) for norm in layout.norms for unit in norm.units}
    names: list[object] = list(range(len(layer.columns)))
    for below in layout.layers:
        for row, unit in enumerate(below.rows.tolist()):
            for column in (layer.columns == unit).nonzero()[:, 0].tolist():
                incoming = _incoming(below, row, start)
                if unit not in normed and incoming == _incoming(below, row, end):
                    names[column] = (below.weight, incoming)
    return names


def _incoming(layer: Layer, row: int, tensors: Tensors) -> tuple[bytes, ...]:
    """All that a unit computes with, as it is stored."""
    own = [tensors[name][row] for name in (layer.weight, layer.bias) if name is not None]
    group = torch.tensor(row * layer.groups // len(layer.rows))
    return tuple(part.detach().cpu().contiguous().numpy().tobytes() for part in (*own, group))
