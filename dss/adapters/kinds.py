"""What a file is, told by its first bytes: its ending may say anything."""

import stat
import struct
from enum import Enum
from pathlib import Path

from dss.base.errors import CheckpointError
from dss.base.quoting import shown


class Kind(Enum):
    """How a file of weights is read."""

    SAFETENSORS = "safetensors"
    ZIP = "zip archive"
    PICKLE = "pickle"


# What is mistaken for a checkpoint, by how it begins, and what to do about it.
FOREIGN = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the weights; fetch them with git lfs pull"),
    (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
    (b"BZh", "is compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ", "is compressed with xz; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd; unpack it first"),
    (b"\x89HDF\r\n", "is an HDF5 file, as Keras writes; save the PyTorch model's state_dict()"),
    (b"GGUF", "is a GGUF file, whose weights are quantized; name the checkpoint that it was made from"),
    (b"\x93NUMPY", "is a NumPy array; save a state dict with torch.save"),
    (b"%PDF", "is a PDF"),
)
TEXT = "is text, not a readable checkpoint"


def kind_of(file: Path) -> Kind:
    """The kind of a file.

    Raises:
        CheckpointError: it is missing, empty, no regular file, or begins like something that holds no weights.
    """
    size = _size(file)
    with file.open("rb") as stream:
        head = stream.read(512)
    for begin, words in FOREIGN:
        if head.startswith(begin):
            raise CheckpointError(f"{shown(file)} {words}")
    if head.lstrip()[:1] == b"<" and b"html" in head.lower():
        raise CheckpointError(f"{shown(file)} is a web page, perhaps of a download that failed; fetch the file again")
    if head.startswith(b"PK\x03\x04"):
        return Kind.ZIP
    if _is_safetensors(head, size) or (file.suffix == ".safetensors" and head[:1] not in (b"\x80",)):
        return Kind.SAFETENSORS
    if not head.startswith(b"\x80") and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        raise CheckpointError(f"{shown(file)} {TEXT}")
    return Kind.PICKLE


def _size(file: Path) -> int:
    """The size of a regular file that is not empty."""
    try:
        found = file.stat()
    except (OSError, ValueError) as error:
        if isinstance(error, PermissionError):
            raise
        raise CheckpointError(f"there is no file {shown(file)}") from error
    if stat.S_ISDIR(found.st_mode):
        raise CheckpointError(f"{shown(file)} is a folder; name a file of weights")
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError(f"{shown(file)} is no ordinary file (a pipe, a device or a socket); name a file of weights")
    if found.st_size == 0:
        raise CheckpointError(f"{shown(file)} is empty: not a readable checkpoint; copy it again")
    return found.st_size


def _is_safetensors(head: bytes, size: int) -> bool:
    """Eight bytes of a header's length, then JSON."""
    return len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= max(size, 100_000_000)


def first_line(error: BaseException) -> str:
    """The kind of an error and the first line of what it says; the kind alone where it says nothing."""
    said = str(error).splitlines()
    return type(error).__name__ + (f": {shown(said[0], 200)}" if said and said[0] else "")
