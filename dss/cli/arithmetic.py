"""Where a command computes, and in which numbers: `--device`, `--dtype`, `--autocast`."""

import argparse
from dataclasses import dataclass

import torch

from dss.base.errors import InputError

DTYPES = ("float32", "float64", "bfloat16", "float16")


@dataclass(frozen=True)
class Arithmetic:
    """Where and how points are computed with.

    Attributes:
        device: of the points, of the task's model and of its data.
        dtype: of the points; None is the wider of the two files', float32 at least.
        autocast: what `torch.autocast` casts to; None if it is not used.
    """

    device: torch.device = torch.device("cpu")
    dtype: torch.dtype | None = None
    autocast: torch.dtype | None = None

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Arithmetic":
        """What the options of a command say.

        Raises:
            InputError: the device is not there, or autocast has nothing to cast.
        """
        return cls.named(options.device, options.dtype, options.autocast)

    @classmethod
    def named(cls, device: str, dtype: str | None, autocast: str | None) -> "Arithmetic":
        """The same by names.

        Raises:
            InputError: the device is not there, or autocast has nothing to cast.
        """
        if autocast is not None and dtype not in (None, "float32"):
            raise InputError(f"--autocast casts float32 alone, and --dtype {dtype} was asked for; leave one of them out")
        return cls(_device(device), *(None if name is None else getattr(torch, name) for name in (dtype, autocast)))


HERE = Arithmetic()
"""On the CPU, in the dtype of the files."""


def add_arithmetic(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument("--device", default="cpu", help="where to compute, such as cuda or mps (default: %(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, help="of the points (default: the files', float32 at least)")
    parser.add_argument(
        "--autocast",
        choices=("bfloat16", "float16"),
        help="let torch.autocast compute what it may in this; nothing is proved then",
    )


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"the device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    if device.type == "meta":
        raise InputError("the device 'meta' holds no numbers; name one that computes, such as cpu or cuda")
    return device
