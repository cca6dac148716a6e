"""Operations that sum up, or compare, along some axes of one operand."""

from collections.abc import Sequence

from torch import Tensor

from dss.symmetry.axes import Axis
from dss.symmetry.rules.elementwise import pointwise
from dss.symmetry.trace import Axes, Call, rule


def reduced(call: Call, x: Tensor) -> tuple[set[int], Axes]:
    """Which axes are reduced, and those of the result."""
    dims, axes = call.arguments.get("dim"), call.axes(x)
    named = [dims] if isinstance(dims, int) else dims or range(len(axes))
    gone = {dim % max(len(axes), 1) for dim in named}
    if call.arguments.get("keepdim"):
        return gone, tuple(Axis(1) if dim in gone else axis for dim, axis in enumerate(axes))
    return gone, tuple(axis for dim, axis in enumerate(axes) if dim not in gone)


@rule(
    "sum", "nansum", "mean", "prod", "amax", "amin", "var", "std", "var_mean", "std_mean", "any", "all", "logsumexp", "norm",
    "linalg_vector_norm", "count_nonzero",
)  # fmt: skip
def reduce(call: Call) -> Sequence[Axes]:
    """The order of what is reduced does not matter."""
    return [reduced(call, call.operands[0])[1]] * len(call.results)


@rule("max", "min", "argmax", "argmin", "median", "mode")
def reduce_to_index(call: Call) -> Sequence[Axes] | None:
    """The number of a place comes out, so places have to stay; the largest of all entries alone has none."""
    if "other" in call.arguments:
        return pointwise(call)
    x = call.operands[0]
    gone, axes = reduced(call, x)
    if len(call.results) > 1 or call.name.startswith("aten.arg"):
        for dim in gone:
            call.pin(call.axes(x)[dim], "place counted by")
    return [axes] * len(call.results)


@rule("_softmax", "_log_softmax", "_safe_softmax")
def softmax(call: Call) -> Sequence[Axes]:
    """Entries are mixed along one axis, which stays."""
    x = call.operands[0]
    axes = call.axes(x)
    if axes:
        call.mix(axes, (axes[call.dim("dim", x)],))
    return [axes]
