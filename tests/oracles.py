"""What tests compare with: plain loops in float64 that share no code with the package."""

import itertools

import torch
from torch import Tensor
from torch.func import functional_call


def naive_loss(model, loss, state: dict[str, Tensor], inputs: Tensor, target: Tensor) -> float:
    """The user's own number: the whole data through the model at once, in float64, in eval mode."""
    state = {name: value.double() if value.is_floating_point() else value for name, value in state.items()}
    model.eval()
    with torch.no_grad():
        return loss(functional_call(model, state, (inputs.double(),)), target).item()


def naive_path_maximum(judge, beads: Tensor, *, per_segment: int = 1000) -> float:
    """The largest loss at equidistant places of every segment, ends included, one point at a time."""
    beads, largest = beads.double(), -float("inf")
    for a, b in itertools.pairwise(beads):
        for i in range(per_segment + 1):
            point = a + i / per_segment * (b - a)
            largest = max(largest, float(judge(point[None]).item()))
    return largest


def dense_grid(judge, beads: Tensor, *, per_segment: int = 1000) -> Tensor:
    """Losses `(n - 1, per_segment + 1)` at equidistant places of every segment, ends included, in one batch."""
    t = torch.linspace(0, 1, per_segment + 1, dtype=torch.float64)[None, :, None]
    points = beads[:-1, None].double() * (1 - t) + beads[1:, None].double() * t
    with torch.no_grad():
        return judge(points.flatten(0, 1)).double().view(len(beads) - 1, -1)


def length(beads: Tensor) -> float:
    """Sum of distances over the distance of the ends, in plain Python floats."""
    rows = beads.double().tolist()
    distances = [sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5 for a, b in itertools.pairwise(rows)]
    return sum(distances) / sum((x - y) ** 2 for x, y in zip(rows[0], rows[-1], strict=True)) ** 0.5
