"""Normalisation: statistics along some axes, a scale and a shift along others."""

from collections.abc import Sequence

from torch import Tensor

from dss.symmetry.axes import Axis, split
from dss.symmetry.rules.elementwise import broadcast
from dss.symmetry.trace import Axes, Call, rule


@rule("native_layer_norm", "_fused_rms_norm")
def layer_norm(call: Call) -> Sequence[Axes]:
    """Over the last axes, scaled and shifted along the same."""
    x, *affine = call.operands
    axes, shape = call.axes(x), call["normalized_shape"]
    last = axes[len(axes) - len(shape) :]
    for tensor in affine:
        for axis, other in zip(last, call.axes(tensor), strict=True):
            call.unify(axis, other)
    call.mix(axes, last)
    statistic = (*axes[: len(axes) - len(shape)], *(Axis(1) for _ in shape))
    return [axes, *[statistic] * (len(call.results) - 1)]


@rule(
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
    "_batch_norm_with_update", "_batch_norm_no_update",
)  # fmt: skip
def batch_norm(call: Call) -> Sequence[Axes]:
    """Channel by channel; affine parameters and running statistics go with the channels."""
    x, *others = call.operands
    axes = call.axes(x)
    _along_channels(call, axes[1], others)
    call.mix(axes, (axes[0], *axes[2:]))
    return [axes]


@rule("native_group_norm")
def group_norm(call: Call) -> Sequence[Axes]:
    """Over each of g groups of channels, and all places."""
    x, *affine = call.operands
    axes, groups = call.axes(x), call["group"]
    _along_channels(call, axes[1], affine)
    group, inside = split(axes[1], [groups, axes[1].size // groups], call.name)
    call.mix(axes, (inside, *axes[2:]))
    return [axes, (axes[0], group), (axes[0], group)]


@rule("_weight_norm_interface")
def weight_norm(call: Call) -> Sequence[Axes]:
    """A direction divided by its norm along all axes but one, times a length for each place of that one."""
    direction, length = call.operands
    axes = broadcast(call, [direction, length], direction.shape)
    kept = call.dim("dim", direction)
    call.mix(axes, axes[:kept] + axes[kept + 1 :])
    return [axes]


def _along_channels(call: Call, channels: Axis, tensors: Sequence[Tensor]) -> None:
    for tensor in tensors:
        call.unify(channels, call.axes(tensor)[0])
