"""Memory that is freed and needed again at every step: kept, instead of returned to the system and faulted in anew."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
# The C library's own: memory above its threshold is given back, and so many pieces may be mapped.
_USUAL = {_M_TRIM_THRESHOLD: 2**17, _M_MMAP_MAX: 2**16}
_KEEPING = {_M_TRIM_THRESHOLD: 2**31 - 1, _M_MMAP_MAX: 0}


def keep_freed_memory(keep: bool = True) -> bool:
    """Let this process keep what it frees: training many beads of a network on CPU gets up to a third faster.

    The C library otherwise returns large activations and gradients to the system at every step. The command line calls
    this; a program that uses the package may. The process's peak memory stays with it until it ends.

    Args:
        keep: False takes it back, for networks of which one point is large: what is kept of those is in pieces that the next
            point does not fit, and memory grows to several times what is needed.

    Returns:
        Whether the C library (glibc) took the wish; others are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(*option) for option in (_KEEPING if keep else _USUAL).items())
