"""Ways in which the files of a run folder can be damaged, drawn at random."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**70, 10**400, 1e308, -1e308, 5e-324, 0.5, "", "x", "inf", "nan", "\x1b[31m<b>", [], {}, [[]], [None], {"a": {}},
)  # fmt: skip
"""What takes the place of a value."""


def damage(draw: random.Random, run: Path) -> str:
    """Damage one file of a run folder; a few words on how."""
    files = [
        file for file in sorted(run.rglob("*")) if file.is_file() and not file.name.startswith(".") and file.suffix != ".html"
    ]
    file = draw.choice(files)
    ways = ANY + (JSON if file.suffix in (".json", ".jsonl") else TENSORS)
    way = draw.choice(ways)
    way(draw, file)
    return f"{way.__name__} of {file.relative_to(run)}"


def truncation(draw: random.Random, file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: draw.randrange(len(content) + 1)])


def flipped_bytes(draw: random.Random, file: Path) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(draw.choice((1, 1, 4, 64))):
        if content:
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(bytes(content))


def garbage(draw: random.Random, file: Path) -> None:
    file.write_bytes(draw.choice((b"", b"\xff\xfe\x00", b"\0" * 4096, b"\x80" * 99, draw.randbytes(300))))


def folder_instead(_draw: random.Random, file: Path) -> None:
    file.unlink()
    file.mkdir()


def loss(_draw: random.Random, file: Path) -> None:
    file.unlink()


def another_value(draw: random.Random, file: Path) -> None:
    """A value anywhere in the file becomes another."""
    _edited(draw, file, lambda holder, key: holder.__setitem__(key, draw.choice(VALUES)))


def nearby_value(draw: random.Random, file: Path) -> None:
    """A value becomes another of its kind: what no check of shapes can see."""

    def change(holder: Any, key: Any) -> None:
        value = holder[key]
        if isinstance(value, bool):
            holder[key] = not value
        elif isinstance(value, (int, float)):
            holder[key] = type(value)(value + draw.choice((1, -1, 0.001, -0.001)) * (1 if isinstance(value, float) else 1000))
        elif isinstance(value, str):
            holder[key] = value[::-1]
        else:
            holder[key] = type(value)()

    _edited(draw, file, change)


def lost_value(draw: random.Random, file: Path) -> None:
    _edited(draw, file, lambda holder, key: holder.pop(key))


def without_seals(draw: random.Random, file: Path) -> None:
    """As a version wrote it that kept no digests, and with another value."""
    texts = [json.loads(text) for text in _documents(file)]
    for document in texts:
        for name in ("seal", "digests", "varies"):
            document.pop(name, None)
    _put(file, texts)
    draw.choice((another_value, nearby_value, lost_value))(draw, file)


def deep_nesting(_draw: random.Random, file: Path) -> None:
    file.write_text('{"a":' * 100_000 + "1" + "}" * 100_000, encoding="utf-8")


def another_document(draw: random.Random, file: Path) -> None:
    file.write_text(
        draw.choice(("[]", "3", "null", '"text"', "{}", "NaN", '{"format": 2}', "9" * 9999, "[" * 9)) + "\n", encoding="utf-8"
    )


def another_format(draw: random.Random, file: Path) -> None:
    texts = [json.loads(text) for text in _documents(file)]
    for document in texts:
        document["format"] = draw.choice((2, 99, 0, -1, "1", None, 1.0, True, 2**80))
    _put(file, texts)


def changed_tensors(draw: random.Random, file: Path) -> None:
    """Valid tensors of other values: multiplied, shifted, all beads the first."""
    how: Callable[[torch.Tensor], torch.Tensor] = draw.choice(
        (lambda v: v * 5, lambda v: v + 0.5, lambda v: v[:1].expand_as(v).clone() if v.ndim else v, lambda v: v.flip(0), lambda v: v * torch.nan)
    )  # fmt: skip
    _mapped(file, how)


def reshaped_tensors(draw: random.Random, file: Path) -> None:
    """Valid tensors of other shapes and dtypes."""
    how: Callable[[torch.Tensor], torch.Tensor] = draw.choice(
        (
            lambda v: v.reshape(-1), lambda v: v[None], lambda v: v[:1], lambda v: v[:0], lambda v: torch.cat([v, v]), lambda v: v.sum(),
            torch.Tensor.double, torch.Tensor.half, torch.Tensor.long, torch.Tensor.bool, lambda v: torch.complex(v, v),
        )
    )  # fmt: skip
    _mapped(file, how)


def one_changed_tensor(draw: random.Random, file: Path) -> None:
    tensors = load_file(file)
    name = draw.choice(sorted(tensors))
    value = tensors.pop(name)
    if draw.random() < 0.7:
        tensors[draw.choice((name, name + "x", "stairs"))] = draw.choice(
            (value[:-1] if value.ndim else value, value + 0.25, value.flatten())
        )
    save_file({n: v.contiguous() for n, v in tensors.items()}, file)


ANY = (truncation, flipped_bytes, garbage, folder_instead, loss)
JSON = (another_value, another_value, another_value, nearby_value, nearby_value, lost_value, without_seals, deep_nesting, another_document, another_format)  # fmt: skip
TENSORS = (changed_tensors, changed_tensors, reshaped_tensors, reshaped_tensors, one_changed_tensor)


def copied(run: Path, to: Path) -> Path:
    """A copy of a run folder to be damaged."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(run, to)
    return to


def _mapped(file: Path, how: Callable[[torch.Tensor], torch.Tensor]) -> None:
    changed = {name: how(value).contiguous().clone() for name, value in load_file(file).items()}
    save_file(changed, file)


def _documents(file: Path) -> list[str]:
    text = file.read_text(encoding="utf-8")
    return text.splitlines() if file.suffix == ".jsonl" else [text]


def _put(file: Path, documents: list[Any]) -> None:
    file.write_text("\n".join(json.dumps(document) for document in documents) + "\n", encoding="utf-8")


def _edited(draw: random.Random, file: Path, change: Callable[[Any, Any], object]) -> None:
    """Change what stands at a random place of a random document of the file."""
    documents = [json.loads(text) for text in _documents(file)]
    places = [(holder, key) for document in documents[-40:] for holder, key in _places(document)]
    if places:
        change(*draw.choice(places))
    _put(file, documents)


def _places(value: Any) -> list[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [place for key in keys for place in [(value, key), *_places(value[key])]]
