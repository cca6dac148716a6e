"""Write many tensors as one entry of a safetensors file, without stacking them in memory first.

The library writes contiguous tensors alone; for the beads of a path, entries of which lie all over them, these would be a
second copy of the whole string.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

# Dtypes of weights as the format names them, https://github.com/huggingface/safetensors#format.
_NAMES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def save_stacked(entries: Mapping[str, Sequence[Tensor]], file: Path) -> None:
    """Write a file in which each entry `(n, *shape)` is a stack of the n tensors `(*shape)` given for it, all of one dtype."""
    names = sorted(entries)
    sizes = [sum(part.nbytes for part in entries[name]) for name in names]
    ends = list(accumulate(sizes))
    described = {
        name: {
            "dtype": _NAMES[entries[name][0].dtype],
            "shape": [len(entries[name]), *entries[name][0].shape],
            "data_offsets": [end - size, end],
        }
        for name, size, end in zip(names, sizes, ends, strict=True)
    }
    header = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)  # data begins at a multiple of eight
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(header)) + header)
        for name in names:
            for part in entries[name]:
                out.write(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
