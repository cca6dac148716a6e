"""The processes that `torchrun` started, and small things that all of them are to know."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@contextmanager
def joined(device: str) -> Iterator[bool]:
    """Within it, this process belongs to the ranks that `torchrun` started; yields whether there are several.

    Args:
        device: where points lie; NCCL carries what lies on GPUs, gloo the rest.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield False
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo")
    try:
        yield True
    finally:
        dist.destroy_process_group()


def is_first() -> bool:
    """Whether this is the rank that writes and speaks; so is a process that is alone."""
    return not dist.is_initialized() or dist.get_rank() == 0


def own_device(device: str) -> str:
    """The device of this rank: of several GPUs on a machine each has one."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" and dist.is_initialized() else device


def from_first(thing: Any) -> Any:
    """What the first rank has, on every rank."""
    if not dist.is_initialized():
        return thing
    held = [thing]
    dist.broadcast_object_list(held, src=0)
    return held[0]


def merged(own: Mapping) -> dict:
    """The entries that the ranks have, together, on every rank."""
    held: list[dict] = [{}] * dist.get_world_size()
    dist.all_gather_object(held, dict(own))
    return {key: value for each in held for key, value in each.items()}


def added(*numbers: float) -> list[int]:
    """Whole numbers, summed over the ranks."""
    total = torch.tensor(numbers, dtype=torch.int64)
    dist.all_reduce(total)
    return total.tolist()


def shares(count: int) -> list[Tensor]:
    """The numbers 0, ..., count - 1, dealt to the ranks in order."""
    return list(torch.arange(count).tensor_split(dist.get_world_size()))
