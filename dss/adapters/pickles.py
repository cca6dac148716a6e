"""torch's pickles. No code of a file is run: torch's restricted reader builds tensors, and classes that are known to be data,
or that the caller allows, become inert stand-ins. Nothing that a file names is imported.
"""

import io
import pickletools
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from dss.adapters.kinds import Kind, first_line
from dss.adapters.zips import check_zip
from dss.base.errors import CheckpointError, InputError
from dss.base.quoting import listed, shown

# Data of training scripts, read as stand-ins: numbers, paths, options.
NUMPY = tuple(f"numpy.{core}.{name}" for core in ("core.multiarray", "_core.multiarray") for name in ("scalar", "_reconstruct"))
HARMLESS = (
    *NUMPY, "numpy.dtype", "numpy.ndarray", "numpy._core.numeric._frombuffer", "numpy.core.numeric._frombuffer",
    "argparse.Namespace", "types.SimpleNamespace", "pathlib.Path", "pathlib.PurePosixPath", "pathlib.PosixPath",
    "pathlib.WindowsPath", "pathlib.PureWindowsPath", "pathlib._local.PosixPath", "pathlib._local.WindowsPath",
    "builtins.dict", "builtins.list", "builtins.int", "builtins.float", "builtins.str",
    "datetime.datetime", "datetime.timedelta", "datetime.date",
)  # fmt: skip
# Dictionaries of other names: read as plain ones, for a state dict may lie in them.
DICTIONARIES = (
    "collections.defaultdict", "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict", "pytorch_lightning.utilities.parsing.AttributeDict",
)  # fmt: skip
# What torch's reader knows by itself and that is data.
OF_TORCH = ("collections.OrderedDict", "collections.Counter", "_codecs.encode", "builtins.set", "builtins.complex")
TENSORS = re.compile(
    r"torch\.(_utils\._rebuild_\w+|_tensor\._rebuild_\w+|storage\.\w+|nn\.parameter\.\w+|serialization\._get_layout|Size|device"
    r"|((cuda|sparse)\.)*\w*(Tensor|Storage))"
)
# Operations that call for a class by its number in a registry, which torch's reader does not know.
NUMBERED = ("EXT1", "EXT2", "EXT4")
# Bytes of a file that any machine can hold.
SMALL = 64 << 20
# A legacy file is a chain of pickles: magic number, protocol, system, content, keys of its storages.
LEGACY_PARTS = 5


class Inert:
    """Something in a pickle that is no tensor: it takes whatever is given, and does nothing."""

    def __new__(cls, *_arguments: object, **_named: object) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *_arguments: object, **_named: object):
        pass

    def __setstate__(self, _state: object) -> None:
        pass


class Plain:
    """A dictionary under another name."""

    def __new__(cls, *_arguments: object) -> dict:  # type: ignore[misc]
        return {}


def load_pickle(file: Path, kind: Kind, *, allow: Iterable[str] = ()) -> object:
    """What a file of torch holds, on the CPU; an archive's tensors stay on disk until they are used.

    Args:
        allow: names such as `my.module.Config` of more classes to pass over.

    Raises:
        CheckpointError: damaged, or it holds what could run code, which is named.
        InputError: a name of `allow` is none.
    """
    inert = (*HARMLESS, *_checked(allow))
    zipped = kind is Kind.ZIP
    stream = io.BytesIO(check_zip(file)) if zipped else file.open("rb")
    with stream:
        _check_globals(file, stream, (*inert, *DICTIONARIES), parts=1 if zipped else LEGACY_PARTS)
    stand_ins: list = [(type(name.rpartition(".")[2], (Inert,), {}), name) for name in inert]
    stand_ins += [(type("Dictionary", (Plain,), {}), name) for name in DICTIONARIES]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
            warnings.simplefilter("ignore")  # torch warns of unusual pickles before it refuses them
            return _load(file, mapped=zipped)
    except MemoryError as error:
        raise _too_much(file, error) from error
    except Exception as error:  # torch raises a different kind for every way a file can be damaged
        if named := re.search(r"GLOBAL (\S+)", str(error)):
            raise _could_run(file, [named[1]]) from error
        raise CheckpointError(f"{shown(file)} is damaged, not a readable checkpoint: {first_line(error)}") from error


def _load(file: Path, *, mapped: bool) -> object:
    """torch's own reading; it takes a file for safetensors by its ending, so that such a one is given open, unmapped."""
    if mapped and file.suffix != ".safetensors":
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    with file.open("rb") as stream:
        return torch.load(stream, map_location="cpu", weights_only=True)


def _checked(allow: Iterable[str]) -> list[str]:
    names = list(allow)
    for name in names:
        if "." not in name or not all(part.isidentifier() for part in name.split(".")):
            raise InputError(f"--allow needs the full name of a class such as argparse.Namespace, got {shown(name)}")
    return names


def _check_globals(file: Path, stream: io.BufferedIOBase, allowed: tuple[str, ...], *, parts: int) -> None:
    """Refuse before loading what names anything but tensors and the allowed."""
    known = {*OF_TORCH, *allowed}
    foreign: dict[str, None] = {}
    broken: Exception | None = None
    try:
        for name in (name for _ in range(parts) for name in _globals(stream)):
            if name not in known and not _of_tensors(name):
                foreign[name] = None
    except MemoryError as error:
        raise _too_much(file, error) from error
    except Exception as error:  # pickletools raises a different kind for every way a pickle can be damaged
        broken = error
    if foreign:
        raise _could_run(file, list(foreign))
    if broken is not None:
        raise CheckpointError(
            f"{shown(file)} is damaged, perhaps cut short, not a readable checkpoint: {first_line(broken)}"
        ) from broken


def _of_tensors(name: str) -> bool:
    """Whether a name is one that tensors are pickled with: how they are rebuilt, their storages, dtypes,
    layouts and schemes."""
    plain = getattr(torch, name.removeprefix("torch."), None)
    return TENSORS.fullmatch(name) is not None or (
        name.startswith("torch.") and isinstance(plain, torch.dtype | torch.layout | torch.qscheme)
    )


def _too_much(file: Path, error: MemoryError) -> Exception:
    """What a lack of memory means: of a small file, that its sizes lie; of a large one, that the machine is too small."""
    if file.stat().st_size > SMALL:
        return error
    return CheckpointError(f"{shown(file)} is damaged, not a readable checkpoint: it asks for far more memory than it has bytes")


def _could_run(file: Path, names: list[str]) -> CheckpointError:
    return CheckpointError(
        f"{shown(file)} is not loaded: it holds {listed(names)}, which could run code; save model.state_dict() alone, "
        f"or, for a class that holds options only, say --allow {shown(names[0])} (allow= in Python)"
    )


def _globals(stream: io.BufferedIOBase) -> Iterator[str]:
    """The full names that one pickle calls for. Python 2's `__builtin__` counts as `builtins`."""
    strings: list[str] = []
    for operation, argument, _ in pickletools.genops(stream):  # type: ignore[arg-type]
        if operation.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".", 1).replace("__builtin__.", "builtins.")
        elif operation.name == "STACK_GLOBAL":
            yield ".".join(strings[-2:])
        elif operation.name in NUMBERED:
            yield f"copyreg.extension {argument}"
        elif isinstance(argument, str):
            strings = [*strings[-1:], argument]
