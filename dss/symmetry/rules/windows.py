"""Operations on windows of places: pooling, resampling, padding by reflection. Channels pass through."""

from collections.abc import Sequence

from dss.symmetry.axes import Axis
from dss.symmetry.trace import Axes, Call, rule

_POOLS = [
    f"{kind}{rank}d{end}"
    for rank in (1, 2, 3)
    for kind, end in (
        ("avg_pool", ""), ("adaptive_avg_pool", ""), ("_adaptive_avg_pool", ""), ("max_pool", ""), ("max_pool", "_with_indices"),
        ("adaptive_max_pool", ""), ("upsample_nearest", ""), ("_upsample_nearest_exact", ""), ("reflection_pad", ""),
        ("replication_pad", ""),
    )
]  # fmt: skip
_RESAMPLED = ["upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d"]


@rule(*_POOLS, *_RESAMPLED)
def window(call: Call) -> Sequence[Axes]:
    """The last axes, as many as the name says, are places."""
    rank = next(int(digit) for digit in "123" if f"{digit}d" in call.name)
    axes = call.axes(call.operands[0])
    for axis in axes[-rank:]:
        call.pin(axis, "place in")
    places = tuple(Axis(size, pinned="place in the image") for size in call.out.shape[-rank:])
    return [(*axes[:-rank], *places)] * len(call.results)


@rule("unfold")
def unfold(call: Call) -> Sequence[Axes]:
    """Windows along one axis become two axes."""
    x = call.operands[0]
    axes, dim = list(call.axes(x)), call.dim("dimension", x)
    call.pin(axes[dim], "place in")
    axes[dim] = Axis(call.out.shape[dim], pinned="number of a window")
    return [(*axes, Axis(call.out.shape[-1], pinned="place in a window"))]
