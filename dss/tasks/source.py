"""Where a task comes from: the digest of the source file that its name points at."""

import hashlib
import importlib.util
import inspect
from pathlib import Path

from dss.tasks.builtin import BUILTIN


def source_digest(name: str) -> str | None:
    """Of the file that defines a task, so that a change of it can be told; None where it is not found.

    What that file imports is not looked at: the digests of the data speak for the data, and those of the ends for the model.
    """
    try:
        return hashlib.blake2b(_source(name).read_bytes(), digest_size=16).hexdigest()
    except (OSError, TypeError, ValueError, ImportError):
        return None


def _source(name: str) -> Path:
    """The file, which is not run; a package that it is in may be."""
    if name in BUILTIN:
        return Path(inspect.getfile(BUILTIN[name]))
    place = name.rpartition(":")[0]
    if place.endswith(".py"):
        return Path(place)
    spec = importlib.util.find_spec(place)
    if spec is None or spec.origin is None:
        raise ImportError(name)
    return Path(spec.origin)
