"""Losses that torch does not name: judges that need no gradient."""

from torch import Tensor


def error_rate(output: Tensor, target: Tensor) -> Tensor:
    """Share of samples whose largest output is not the target class.

    Args:
        output: `(n, classes)` scores.
        target: `(n,)` integer classes.
    """
    return (output.argmax(-1) != target).double().mean()
