"""Files that are mapped into memory: giving back the pages that were read, so that a pass over a large file stays small.

The kernel counts a mapped page as the process's own until memory is short, or until it is told that the page is not needed.
The content stays what it was: pages come back from the file when they are read again.
"""

import ctypes
import mmap
import sys
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

# Of madvise(2). The first forgets private changes, the second keeps them and may be slower.
DONTNEED, PAGEOUT = 4, 21


def is_mapped(tensor: Tensor) -> bool:
    """Whether a tensor lies in a mapped file; but on Linux it cannot be told."""
    return any(_places(tensor))


def give_back(tensor: Tensor) -> None:
    """Let go of the resident pages of a tensor that lies in a mapped file; of any other tensor, nothing."""
    for start, end, low, high, shared in _places(tensor):
        # Whole pages inside the tensor: its neighbours on the first and the last page are not ours.
        first, last = -(-max(start, low) // mmap.PAGESIZE) * mmap.PAGESIZE, min(end, high) // mmap.PAGESIZE * mmap.PAGESIZE
        if first < last:
            _libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), DONTNEED if shared else PAGEOUT)


def _places(tensor: Tensor) -> Iterator[tuple[int, int, int, int, bool]]:
    """Start and end of the tensor's memory, and start, end and kind of the mappings of files that it overlaps."""
    if sys.platform != "linux" or tensor.device.type != "cpu" or not tensor.numel():
        return
    storage = tensor.untyped_storage()
    start, end = storage.data_ptr(), storage.data_ptr() + storage.nbytes()
    yield from ((start, end, low, high, shared) for low, high, shared in _file_mappings() if low < end and start < high)


def _file_mappings() -> list[tuple[int, int, bool]]:
    """Start, end, and whether changes go to the file, of every mapping of a file (proc_pid_maps(5))."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, rights, _offset, _device, inode, *_name = line.split(maxsplit=5)
        if inode != "0":
            low, high = (int(address, 16) for address in addresses.split("-"))
            found.append((low, high, rights.endswith("s")))
    return found


_libc = ctypes.CDLL(None, use_errno=True)
