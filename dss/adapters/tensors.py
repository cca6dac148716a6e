"""Tensors as files hold them: what is no plain array of real numbers is refused by name."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from dss.base.errors import CheckpointError
from dss.base.quoting import shown


def check_dense(file: Path, state: Mapping[str, Tensor], size: int) -> None:
    """Refuse tensors that hold no numbers of their own, or claim more than the file has.

    Raises:
        CheckpointError: sparse, meta, nested, quantized or forged tensors.
    """
    for name, value in state.items():
        if (kind := _unusual(value)) is not None:
            raise CheckpointError(f"{shown(file)}: {shown(name)} is a {kind}; save it as an ordinary dense tensor")
        if value.numel() * value.element_size() > size:
            raise CheckpointError(f"{shown(file)} is damaged: {shown(name)} claims more bytes than the file has")


def _unusual(value: Tensor) -> str | None:
    """What a tensor is, if not plain."""
    if value.is_meta:
        return "meta tensor, which has a shape and no numbers"
    if value.is_nested:
        return "nested tensor"
    if value.layout is not torch.strided:
        return f"sparse tensor ({str(value.layout).removeprefix('torch.')})"
    if value.is_quantized:
        return "quantized tensor"
    return None
