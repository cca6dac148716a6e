"""Damaged and hostile files of weights: every one is read whole or refused in one sentence.

Real files (torch's archives, its older pickles, safetensors) are mutated: bits flipped, bytes cut off or replaced, members
swapped, compressed or repeated, headers forged, code put into pickles. A file of the first kind that was changed and read
must hold the same weights: its checksums say so.
"""

import gzip
import io
import json
import os
import pickle
import random
import signal
import struct
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

import dss

PATIENCE = 10
"""Seconds after which a file counts as one that hangs."""
ROOM = 300 << 20
"""Bytes beyond twice the file's that reading may take."""
LONGEST = 3000
"""Characters of a message."""
WATCHED = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect", "shutil.rmtree")
CALLS = ("os.system", "posix.system", "builtins.eval", "builtins.exec", "builtins.open", "subprocess.Popen", "subprocess.check_output",
         "importlib.import_module", "builtins.getattr", "shutil.rmtree", "webbrowser.open", "torch.hub.load", "torch.load",
         "numpy.load", "torch.utils.cpp_extension.load", "runpy.run_path", "builtins.__import__", "operator.attrgetter",
         "functools.partial", "torch._inductor.codecache.PyCodeCache.load", "builtins.bytearray", "torch.FloatTensor")  # fmt: skip

Mutation = Callable[[random.Random, bytes], bytes]
watching: list[str] = []


def call(name: str, arguments: tuple, protocol: int = 2) -> bytes:
    """A pickle that calls a function by name; nothing is imported to write it."""
    module, _, attribute = name.rpartition(".")
    inner = pickle.dumps(arguments, protocol=2)[2:-1]
    return b"\x80" + bytes([protocol]) + f"c{module}\n{attribute}\n".encode() + inner + b"R."


def flip(draw: random.Random, content: bytes) -> bytes:
    """One to eight bits."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 8)):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(draw: random.Random, content: bytes) -> bytes:
    """The end is missing, or the start."""
    place = draw.randrange(len(content))
    return content[:place] if draw.random() < 0.7 else content[place:]


def splice(draw: random.Random, content: bytes) -> bytes:
    """A stretch of other bytes: random ones, or some from elsewhere in the file."""
    place, length = draw.randrange(len(content)), draw.randint(1, 64)
    other = draw.randbytes(length) if draw.random() < 0.5 else content[draw.randrange(len(content)) :][:length]
    return content[:place] + other + content[place + length * draw.randint(0, 1) :]


def rezipped(content: bytes, change: Callable[[list[tuple[str, bytes]]], list[tuple[str, bytes]]], method: int = 0) -> bytes:
    """An archive with other members, its checksums in order."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(m.filename, archive.read(m)) for m in archive.infolist()]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, value in change(members):
            archive.writestr(name, value)
    return out.getvalue()


def swapped(draw: random.Random, content: bytes) -> bytes:
    """Two members change places, one is repeated, gone, or grown by a bomb."""

    def change(members: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        (a, x), (b, y) = draw.sample(members, 2)
        kind = draw.randrange(3)
        if kind == 0:
            return [(a, y) if n == a else (b, x) if n == b else (n, v) for n, v in members]
        return [m for m in members if m[0] != a] if kind == 1 else [(n, v + b"0" * 1000) for n, v in members]

    return rezipped(content, change)


def compressed(draw: random.Random, content: bytes) -> bytes:
    """Members that grow a thousandfold when they are read."""
    bomb = [("archive/data/99", bytes(draw.randint(1, 50) << 20))]
    return rezipped(content, lambda members: members + bomb, draw.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)))


def repickled(draw: random.Random, content: bytes) -> bytes:
    """The pickle in an archive is another: it calls something, or its bytes were changed and its checksum with them."""

    def change(members: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        other = hostile(draw, b"") if draw.random() < 0.5 else None
        return [(n, (other or flip(draw, v)) if n.endswith("data.pkl") else v) for n, v in members]

    return rezipped(content, change)


def hostile(draw: random.Random, _content: bytes) -> bytes:
    """A bare pickle that calls a function."""
    name = draw.choice(CALLS)
    arguments = (10**10,) if name in ("builtins.bytearray", "torch.FloatTensor") else ("touch code-was-run",)
    if name in ("builtins.eval", "builtins.exec"):
        arguments = ("open('code-was-run', 'w')",)
    if name == "builtins.open":
        arguments = ("code-was-run", "w")
    return call(name, arguments, draw.choice((2, 4)))


def forged(draw: random.Random, _content: bytes) -> bytes:
    """A header of safetensors that lies: of lengths, places, shapes, dtypes, names."""
    name = draw.choice(("0.weight", "x" * 100_000, "\x1b[31m\x07", "0.weight"))
    shape = draw.choice(([4, 3], [10**12], [2**63], [-1], [], "4", [4, 10**9]))
    entry = {"dtype": draw.choice(("F32", "F64", "F8_E4M3", "X9", 7)), "shape": shape,
             "data_offsets": draw.choice(([0, 48], [0, 10**15], [48, 0], [-1, 4], "0"))}  # fmt: skip
    header = json.dumps(
        draw.choice(({name: entry}, {name: entry, "b": entry}, [], {name: 3}, dict.fromkeys(map(str, range(999)), entry)))
    )
    length = draw.choice((len(header), len(header), 2**63, 10**9, 0, len(header) - 1))
    return struct.pack("<Q", length) + header.encode() + draw.randbytes(48)


def another(draw: random.Random, content: bytes) -> bytes:
    """Not a checkpoint at all."""
    return draw.choice((b"", gzip.compress(content), b"<!DOCTYPE html><html>404</html>", b"version https://git-lfs.github.com/spec/v1\n",
                        b"PK\x03\x04", b"\x80\x02", draw.randbytes(300), b"hello " * 40, bytes(500)))  # fmt: skip


def nested(draw: random.Random, _content: bytes) -> bytes:
    """Deep, wide, self-referring or badly named contents."""
    depth = draw.choice((10, 1000, 100_000))
    return draw.choice((
        b"\x80\x02" + b"}X\x01\x00\x00\x00a" * depth + b"}" + b"s" * depth + b".",
        b"\x80\x02]q\x00h\x00a.",
        b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",
        pickle.dumps({"\x1b[2J" + "n" * depth: 1.0}, protocol=2),
        pickle.dumps({i: i for i in range(depth)}, protocol=2),
        b"\x80\x02" + b"(" * depth + b"t" * depth + b".",
    ))  # fmt: skip


ZIPPED: tuple[Mutation, ...] = (flip, flip, cut, splice, swapped, compressed, repickled, repickled)
OTHERS: tuple[Mutation, ...] = (flip, cut, splice, hostile, hostile, forged, forged, another, nested)


def network() -> nn.Module:
    """The model whose files are mutated."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def originals(model: nn.Module) -> list[tuple[str, bytes, tuple[Mutation, ...]]]:
    """Sound files, and what is done to them."""
    state = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters()).state_dict()
    files = []
    for name, content, options in (
        ("zip", state, {}),
        ("trainer", {"state_dict": state, "optimizer": optimizer, "epoch": 3}, {}),
        ("legacy", state, {"_use_new_zipfile_serialization": False}),
    ):
        out = io.BytesIO()
        torch.save(content, out, **options)
        files.append((name, out.getvalue(), OTHERS if options else ZIPPED))
    return [*files, ("safetensors", save(state), OTHERS)]


def run(count: int, seed: int) -> dict:
    """Read mutated files; what is counted should be 0 but for the files, those read and the peaks."""
    draw, model = random.Random(seed), network()
    space = dss.ParameterSpace.of(model)
    truth = space.flatten(model.state_dict())
    counted = {"files": 0, "read": 0, "tracebacks": 0, "code run": 0, "hangs": 0, "changed weights believed": 0,
               "messages too long or raw": 0, "peaks beyond twice the file and 300 MB": 0}  # fmt: skip
    failures, peak = [], 0
    _watch()
    with tempfile.TemporaryDirectory() as folder:
        for i in range(count):
            name, sound, mutations = draw.choice(originals(model))
            mutation = draw.choice(mutations)
            content = mutation(draw, sound)
            file = Path(folder) / f"{i}{draw.choice(('.pt', '.safetensors', '.bin', '.ckpt'))}"
            file.write_bytes(content)
            wrong, used, read = _tried(
                file, space, truth if mutation in (flip, cut, splice) and name in ("zip", "trainer") else None
            )
            counted["files"] += 1
            counted["read"] += read
            peak = max(peak, used)
            for kind, words in wrong:
                counted[kind] += 1
                failures.append(f"{kind}: {mutation.__name__} of {name}, seed {seed}, file {i}: {words}")
            file.unlink()
    return {**counted, "largest peaks (MB)": [round(peak / 1e6, 1)], "failures": failures}


def _tried(file: Path, space: dss.ParameterSpace, truth: Tensor | None) -> tuple[list[tuple[str, str]], int, bool]:
    """What went wrong with one file, the memory it took in bytes, and whether it was read."""
    wrong, read, before, old = [], False, _peak(reset=True), Path.cwd()
    os.chdir(file.parent)
    watching.clear()
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(PATIENCE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what was passed over is named in warnings
            point = dss.load_point(file, space)
        read = True
        if truth is not None and not torch.equal(point, truth):
            wrong.append(("changed weights believed", "checksums were not looked at"))
    except TimeoutError:
        wrong.append(("hangs", f"more than {PATIENCE} s"))
    except dss.InputError as error:
        if len(str(error)) > LONGEST or not str(error).isprintable():
            wrong.append(("messages too long or raw", ascii(str(error)[:200])))
    except Exception as error:
        wrong.append(("tracebacks", ascii(f"{type(error).__name__}: {error}")[:300]))
    finally:
        signal.alarm(0)
        os.chdir(old)
    if watching or (file.parent / "code-was-run").exists():
        wrong.append(("code run", ascii(watching)))
        (file.parent / "code-was-run").unlink(missing_ok=True)
    used = max(0, _peak() - before)
    if used > 2 * file.stat().st_size + ROOM:
        wrong.append(("peaks beyond twice the file and 300 MB", f"{used / 1e6:.0f} MB"))
    return wrong, used, read


def _too_long(*_: object) -> None:
    raise TimeoutError


def _watch() -> None:
    """Note whatever reaches the operating system; a hook cannot be taken off again, so there is one."""
    if not getattr(sys, "_dss_watched", False):
        sys.addaudithook(lambda event, _arguments: watching.append(event) if event in WATCHED else None)
        sys._dss_watched = True  # type: ignore[attr-defined]


def _peak(*, reset: bool = False) -> int:
    """The most memory that this process has held, in bytes, since it was last reset; 0 where the system does not tell."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0
