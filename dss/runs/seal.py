"""Digests of what a run folder says, so that a change made afterwards is noticed. They keep no secret: nobody is stopped."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

from torch import Tensor

from dss.base.digest import digest
from dss.base.path import Path

SEAL = "seal"


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of JSON values with the digest of all that it says."""
    plain = {name: value for name, value in record.items() if name != SEAL}
    return plain | {SEAL: _digest(json.dumps(plain, sort_keys=True).encode())}


def intact(record: Mapping[str, Any], with_seal: str = SEAL) -> bool:
    """Whether a record says what it said when it was sealed; one that never was makes no claim.

    Args:
        with_seal: a field that sealed records alone have.
    """
    if SEAL not in record:
        return with_seal not in record
    return record[SEAL] == sealed(record)[SEAL]


def digest_of_path(path: Path) -> str:
    """Of all beads in their order."""
    return _digest(" ".join(path.digests).encode())


def digest_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Of named tensors, whatever their order."""
    parts = (f"{name} {tuple(value.shape)} {digest(value.reshape(-1))}" for name, value in sorted(tensors.items()))
    return _digest("\n".join(parts).encode())


def digest_of_file(file: FilePath) -> str | None:
    """Of a file's bytes; None where there is none."""
    try:
        return _digest(file.read_bytes())
    except OSError:
        return None
