"""Normalised margins of homogeneous networks, and the bound on the error that goes with them.

A network is homogeneous of degree L if f(c W; x) = c^L f(W; x) for c > 0: layers without biases, ReLUs between them. Its
margin at the point W / |W| does not depend on the length of W, so margins of networks can be compared, along a training or
along a path (Lee 2019, "Margin Theory"; Wei, Lee, Liu & Ma 2018).
"""

import math

import torch
from torch import Tensor
from torch.func import functional_call

from dss.base.errors import InputError
from dss.objectives.network import NetworkObjective
from dss.objectives.objective import Objective

# Where homogeneity is tried, and how far a rounded output may be from it.
_SCALES, _ROUNDING = (2.0, 0.5, 3.0), 1e-8


def normalized_margin(objective: Objective, points: Tensor) -> Tensor:
    """min over the data of y f(W / |W|; x); with several classes of f_y minus the largest other output.

    Positive exactly where every sample is classified right, ties counted as errors.

    Args:
        objective: a `NetworkObjective` whose network is homogeneous. Its targets are classes `(n,)`, or for a network of one
            output signs: +-1, or 0 and 1.
        points: `(k, p)`, none of them zero.

    Returns:
        `(k,)` float64.

    Raises:
        InputError: no such network or targets, or a point that is zero.

    Source: Lee 2019, "Margin Theory".
    """
    network = _network(objective)
    norms = points.double().norm(dim=1)
    if not (norms > 0).all():
        raise InputError("a point of length zero has no direction, so no normalised margin")
    directions = points.double() / norms[:, None]
    degree(objective, directions[0])
    return torch.stack([_margin(network, direction) for direction in directions])


def degree(objective: Objective, point: Tensor) -> float:
    """The degree L of homogeneity of a network, found by scaling a point `(p,)`.

    Raises:
        InputError: it is not homogeneous there (biases, normalisation, other activations), or its outputs are all zero.
    """
    network = _network(objective)
    point = point.double()
    outputs = _outputs(network, point)
    scaled = [_outputs(network, scale * point) for scale in _SCALES]
    if not outputs.abs().max() > 0:
        raise InputError("all outputs are zero: the degree of homogeneity cannot be told")
    found = math.log(scaled[0].norm().item() / outputs.norm().item()) / math.log(_SCALES[0]) if scaled[0].any() else math.nan
    for scale, values in zip(_SCALES, scaled, strict=True):
        expected = scale**found * outputs
        if not torch.allclose(values, expected, rtol=_ROUNDING, atol=_ROUNDING * expected.abs().max().item()):
            raise InputError(
                f"the network is not homogeneous: scaled by {scale:g} its outputs do not scale by one power; margins are comparable "
                "for networks without biases and normalisation, with ReLU or linear activations"
            )
    return found


def margin_bound(objective: Objective, point: Tensor) -> float:
    """sqrt(L) prod_j |W_j|_F / (gamma sqrt(n)), gamma the margin that is not normalised.

    The probability of an error is at most of this order (constants and logarithms are left out), for data inside the unit ball;
    infinite where a sample is classified wrong.

    Args:
        objective: as for `normalized_margin`; every parameter is a matrix of one layer.
        point: `(p,)`.

    Raises:
        InputError: as for `normalized_margin`, or parameters that are no matrices.

    Source: Golowich, Rakhlin & Shamir 2018, as Lee 2019 quotes it, "Deep Feedforward Network".
    """
    network = _network(objective)
    degree(objective, point)
    matrices = network.space.unflatten(point.double())
    odd = [name for name, matrix in matrices.items() if matrix.ndim != 2]
    if odd:
        raise InputError(f"one matrix for each layer is needed, got {', '.join(odd)}")
    gamma = _margin(network, point.double()).item()
    norms = math.prod(matrix.norm().item() for matrix in matrices.values())
    return math.sqrt(len(matrices) / len(network.data)) * norms / gamma if gamma > 0 else math.inf


def _network(objective: Objective) -> NetworkObjective:
    network = objective.unwrapped
    if not isinstance(network, NetworkObjective):
        raise InputError(f"a network is needed for a margin, got {type(network).__name__}")
    return network


def _outputs(network: NetworkObjective, point: Tensor) -> Tensor:
    """Outputs `(n, classes)` at a point `(p,)`."""
    inputs = network.data.cast(torch.float64, point.device).inputs
    with torch.no_grad():
        outputs = functional_call(network.model, (network.space.unflatten(point), network.constants_like(point[None])), inputs)
    if not isinstance(outputs, Tensor) or outputs.ndim > 2:
        raise InputError("one output, or one for each class, is needed for every sample")
    return outputs.view(len(outputs), -1)


def _margin(network: NetworkObjective, point: Tensor) -> Tensor:
    """The least margin over the data at a point, not normalised: a scalar."""
    outputs, target = _outputs(network, point), network.data.target
    if not isinstance(target, Tensor) or target.numel() != len(outputs):
        raise InputError("one class or sign is needed for every sample")
    target = target.view(-1).to(outputs.device)
    if outputs.shape[1] == 1:
        return (outputs[:, 0] * _signs(target)).min()
    if not (target == target.long()).all() or not (target >= 0).all() or not (target < outputs.shape[1]).all():
        raise InputError(f"classes from 0 to {outputs.shape[1] - 1} are needed, as many as outputs")
    own = torch.nn.functional.one_hot(target.long(), outputs.shape[1]).bool()
    others = outputs.masked_fill(own, -math.inf).amax(1)
    return (outputs[own] - others).min()


def _signs(target: Tensor) -> Tensor:
    """+-1 of labels that are +-1, or 0 and 1."""
    if (target.abs() == 1).all():
        return target.double()
    if torch.isin(target, torch.tensor([0, 1], dtype=target.dtype)).all():
        return target.double() * 2 - 1
    raise InputError("labels of a network of one output must be -1 and 1, or 0 and 1")
