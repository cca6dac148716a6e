"""Folders of weights: `save_pretrained`, its shards, and peft's adapters."""

import hashlib
import json
from pathlib import Path

from dss.base.errors import CheckpointError
from dss.base.quoting import listed, shown

ADAPTER_CONFIG = "adapter_config.json"
# Whole models first by the safer format; shards are named by an index.
WHOLE = ("model.safetensors", "pytorch_model.bin", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
# What trainers leave beside the weights.
BESIDE = ("optimizer", "scheduler", "training_args", "rng_state", "scaler", "random_states")
INDEX_LIMIT = 64 << 20


def files_of(folder: Path) -> list[Path]:
    """The files that hold a folder's weights: one, or all shards.

    Raises:
        CheckpointError: none, several without an index, or shards that are missing.
    """
    names = ADAPTER if (folder / ADAPTER_CONFIG).is_file() else WHOLE
    for name in names:
        if (folder / f"{name}.index.json").is_file():
            return _shards(folder, folder / f"{name}.index.json")
        if (folder / name).is_file():
            return [folder / name]
    indices = sorted(folder.glob("*.index.json"))
    if len(indices) == 1:
        return _shards(folder, indices[0])
    found = sorted(f for f in folder.iterdir() if f.suffix in WEIGHTS and f.is_file() and not f.name.startswith(BESIDE))
    if len(found) == 1:
        return found
    if found and all("-of-" in file.name for file in found):
        raise CheckpointError(f"{shown(folder)} holds shards ({listed(f.name for f in found)}) but no index.json; copy it too")
    raise CheckpointError(_which(folder, found))


def _which(folder: Path, found: list[Path]) -> str:
    if found:
        return f"{shown(folder)} is a folder with several files of weights ({listed(f.name for f in found)}); name one of them"
    if (folder / "run.json").is_file():
        return f"{shown(folder)} is a run folder, not a checkpoint; take a bead out of it with dss export"
    if any(folder.glob("*.distcp")) or (folder / ".metadata").exists():
        return (
            f"{shown(folder)} is a distributed checkpoint; make one file of it with "
            "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE"
        )
    if (folder / "zero_to_fp32.py").exists() or (folder / "latest").exists():
        return f"{shown(folder)} is a DeepSpeed checkpoint; make one file of it with its own zero_to_fp32.py"
    return (
        f"{shown(folder)} is a folder without weights; save_pretrained writes model.safetensors, its shards, or "
        "adapter_model.safetensors"
    )


def _shards(folder: Path, index: Path) -> list[Path]:
    names = sorted(set(_weight_map(index).values()))
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise CheckpointError(f"{shown(index)} names files outside its folder: {listed(outside)}")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        there = sorted(f.name for f in folder.iterdir() if f.suffix in WEIGHTS and f.name not in names)
        cure = f"; beside it lie {listed(there)}: rename what was named wrongly" if there else "; copy them too"
        raise CheckpointError(f"{shown(index)} names shards that are missing: {listed(missing)}{cure}")
    return [folder / name for name in names]


def _weight_map(index: Path) -> dict[str, str]:
    """Which shard holds which tensor."""
    try:
        if index.stat().st_size > INDEX_LIMIT:
            raise CheckpointError(f"{shown(index)} is too large for an index")
        found = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        assert found and all(isinstance(name, str) and isinstance(file, str) for name, file in found.items())
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{shown(index)} is damaged: it has no weight_map of names to files") from error
    return found


def base_of(folder: Path) -> str | None:
    """The model that an adapter was made for: a digest of its weights where they lie on this machine, else its name.

    Raises:
        CheckpointError: the adapter's configuration is damaged.
    """
    file = folder / ADAPTER_CONFIG
    if not file.is_file():
        return None
    try:
        name = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{shown(file)} is damaged: it is no JSON object") from error
    if not isinstance(name, str) or not name:
        return None
    local = Path(name).expanduser()
    if not local.is_dir():
        return name
    return _digest(files_of(local))


def _digest(files: list[Path]) -> str:
    """Of the bytes of files, read in chunks."""
    content = hashlib.blake2b(digest_size=16)
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                content.update(chunk)
    return content.hexdigest()
