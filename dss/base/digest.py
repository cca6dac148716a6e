"""A short name for a point: equal dtype and bits, equal name."""

import hashlib
from typing import Any

import torch
from torch import Tensor


def digest(point: Tensor) -> str:
    """32 hexadecimal digits for a point `(p,)`, the same on every device."""
    content: Any = point.detach().cpu().contiguous().view(torch.uint8).numpy()
    return hashlib.blake2b(content, digest_size=16, person=str(point.dtype)[6:].encode()).hexdigest()
