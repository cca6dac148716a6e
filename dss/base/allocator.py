"""Memory that is freed and needed again at every step: kept, instead of returned to the system and faulted in anew."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let this process keep what it frees: training many beads of a large network on CPU gets up to a third faster.

    The C library otherwise returns large activations and gradients to the system at every step. The command line calls
    this; a program that uses the package may. The process's peak memory stays with it until it ends.

    Returns:
        Whether the C library (glibc) took the wish; others are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)) and bool(mallopt(_M_MMAP_MAX, 0))
