"""An immutable string of beads joined by straight segments. Geometry is float64, whatever the beads' dtype."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path as FilePath

import torch
from torch import Tensor

from dss.base.chunks import all_finite, distance
from dss.base.digest import digest
from dss.base.errors import InputError, NotFinite
from dss.base.files import write_atomically
from dss.base.shown import Shown

# From here on points are written one by one into their place: a gather of both beads would hold three copies of them.
LARGE_ROW = 2**16
# Matrices of beads that were asked for are kept up to this size.
KEPT_BYTES = 64 * 2**20


class Path(Shown):
    """A string of n >= 2 beads `(n, p)`, ends included, joined by straight segments.

    Beads are shared between paths, never copied: a path with one bead more takes one bead more memory. Nobody writes to them.

    Args:
        beads: a matrix `(n, p)`, or n points `(p,)` of one dtype on one device.

    Raises:
        InputError: `beads` is not a finite floating-point matrix of two rows or more.
    """

    def __init__(self, beads: Tensor | Sequence[Tensor]):
        matrix = beads if isinstance(beads, Tensor) else None
        if matrix is not None and (matrix.ndim != 2 or len(matrix) < 2 or not matrix.is_floating_point()):
            raise InputError(f"a path needs floating-point beads of shape (n >= 2, p), got {tuple(matrix.shape)}")
        rows = tuple(beads)
        _check_alike(rows)
        _check_finite(rows)
        self._beads, self._matrix = tuple(map(_Bead, rows)), matrix

    @classmethod
    def straight(cls, start: Tensor, end: Tensor) -> "Path":
        """The two-bead path between two points `(p,)`."""
        return cls([start, end])

    @classmethod
    def partial(cls, rows: Sequence[Tensor], digests: Sequence[str]) -> "Path":
        """A path some of whose beads lie elsewhere: tensors `(p,)` on the device "meta", which have a size and no numbers.

        Its `size`, its `digests` and its number of beads are the whole path's; whatever reads an absent bead raises.

        Args:
            rows: beads that were checked, and absent ones.
            digests: of all of them.
        """
        path = object.__new__(cls)
        path._beads, path._matrix = tuple(_Bead(*each) for each in zip(rows, digests, strict=True)), None
        return path

    def __len__(self) -> int:
        return len(self._beads)

    def __repr__(self) -> str:
        return f"Path({len(self)} beads of {self.size:,} parameters, {str(self.rows[0].dtype).removeprefix('torch.')})"

    @property
    def size(self) -> int:
        """The number p of coordinates."""
        return self.rows[0].numel()

    @property
    def rows(self) -> tuple[Tensor, ...]:
        """The n beads `(p,)`."""
        return tuple(bead.point for bead in self._beads)

    @property
    def whole(self) -> bool:
        """Whether all beads are here."""
        return not any(row.is_meta for row in self.rows)

    @property
    def beads(self) -> Tensor:
        """The beads `(n, p)` as one matrix; where they are large, made anew: read `rows` to save the memory."""
        if self._matrix is not None:
            return self._matrix
        matrix = torch.stack(self.rows)
        if matrix.nbytes <= KEPT_BYTES:
            self._matrix = matrix
        return matrix

    @property
    def intermediate_beads(self) -> int:
        """Beads without the two ends."""
        return len(self) - 2

    @property
    def digests(self) -> tuple[str, ...]:
        """The beads' names (`dss.base.digest`): each bead is read once, also for longer paths made from this one."""
        return tuple(bead.digest for bead in self._beads)

    def segment_lengths(self, coordinates: Tensor | None = None) -> Tensor:
        """Euclidean lengths `(n - 1,)` in float64, over all coordinates or those of a mask `(p,)`."""
        return torch.stack([distance(a, b, coordinates) for a, b in itertools.pairwise(self.rows)])

    def length(self, coordinates: Tensor | None = None) -> float:
        """Sum of the segment lengths."""
        return self.segment_lengths(coordinates).sum().item()

    @property
    def normalized_length(self) -> float:
        """Length over the distance of the ends: 1 for a straight line (Freeman & Bruna 2017, section 3.1)."""
        return self.normalized_length_over(None)

    def normalized_length_over(self, coordinates: Tensor | None) -> float:
        """Normalized length over the coordinates of a mask `(p,)`; infinity for coincident ends."""
        straight = distance(self.rows[0], self.rows[-1], coordinates).item()
        return self.length(coordinates) / straight if straight else float("inf")

    def arc_lengths(self) -> Tensor:
        """Distance travelled at every bead as a fraction of the length, `(n,)` float64, from 0 to 1."""
        travelled = torch.cat([torch.zeros(1, dtype=torch.float64, device=self.rows[0].device), self.segment_lengths().cumsum(0)])
        return travelled / travelled[-1].clamp_min(torch.finfo(torch.float64).tiny)

    def points(self, segments: Tensor, t: Tensor) -> Tensor:
        """Points `(m, p)` at places t in [0, 1] of segments, both `(m,)`; t = 0 and 1 give the beads exactly."""
        first = self.rows[0]
        if first.nbytes < LARGE_ROW:
            segments = segments.to(first.device)
            return torch.lerp(self.beads[segments], self.beads[segments + 1], t.to(first)[:, None])
        found, weights = first.new_empty(len(segments), self.size), t.to(first)
        with torch.no_grad():
            for point, weight, segment in zip(found, weights[:, None], segments.tolist(), strict=True):
                torch.lerp(self.rows[segment], self.rows[segment + 1], weight, out=point)
        return found

    def insert(self, segments: Tensor, beads: Tensor) -> "Path":
        """A longer path: bead i `(p,)` of `beads` goes into segment `segments[i]`; one per segment, ascending."""
        added = dict(zip(segments.tolist(), self._of(beads), strict=True))
        return self._with(bead for i, own in enumerate(self._beads) for bead in ((own, added[i]) if i in added else (own,)))

    def replace(self, indices: Tensor, beads: Tensor) -> "Path":
        """The path with the beads at `indices` `(m,)` exchanged for `beads` `(m, p)`."""
        fresh = dict(zip((indices % len(self)).tolist(), self._of(beads), strict=True))
        return self._with(fresh.get(i, own) for i, own in enumerate(self._beads))

    def resample(self, n: int) -> "Path":
        """n beads at equal arc lengths along this path; the ends stay as they are."""
        if n < 2:
            raise InputError(f"a path needs two beads at least, got {n}")
        arc = self.arc_lengths()
        where = torch.linspace(0, 1, n, dtype=torch.float64, device=arc.device)
        segments = torch.searchsorted(arc, where, right=True).sub(1).clamp(0, len(self) - 2)
        spans = (arc[segments + 1] - arc[segments]).clamp_min(torch.finfo(torch.float64).tiny)
        beads = self.points(segments, ((where - arc[segments]) / spans).clamp(0, 1))
        beads[0], beads[-1] = self.rows[0], self.rows[-1]
        return Path(beads)

    def to(self, device: torch.device) -> "Path":
        """The path on another device; on its own, the same beads. What is absent stays so."""
        if all(row.is_meta or row.device == device for row in self.rows):
            return self
        return Path.partial([row if row.is_meta else row.to(device) for row in self.rows], self.digests)

    def store(self, folder: FilePath) -> None:
        """Let the beads lie in files of a folder, mapped into memory, here and in all paths that share them.

        Each bead is written once; it is read when it is needed, and the system may let go of it whenever memory is short. The
        folder must stay as long as one of these paths does (on Linux, its files may be removed earlier).
        """
        self._matrix = None
        for bead in self._beads:
            bead.store(folder)

    def _of(self, beads: Tensor) -> "tuple[_Bead, ...]":
        """Beads `(m, p)` that are to join these, in their dtype on their device."""
        rows = tuple(bead.to(self.rows[0]) for bead in beads)
        _check_finite(rows)
        return tuple(map(_Bead, rows))

    def _with(self, beads: "Iterable[_Bead]") -> "Path":
        """A path of beads that were checked."""
        path = object.__new__(Path)
        path._beads, path._matrix = tuple(beads), None
        return path


class _Bead:
    """A point `(p,)`, and its digest once that was asked for, or from the start."""

    def __init__(self, point: Tensor, name: str | None = None):
        self.point = point
        self._named: tuple[int, str] | None = None if name is None else (self._version, name)
        self._stored = False

    @property
    def digest(self) -> str:
        if self._named is None or self._named[0] != self._version:  # somebody wrote to it
            self._named = self._version, digest(self.point)
        return self._named[1]

    @property
    def _version(self) -> int:
        return 0 if self.point.is_inference() else self.point._version

    def store(self, folder: FilePath) -> None:
        """Write the point to a file named by its digest, and map that."""
        if self._stored:
            return
        name, place, point = self.digest, self.point.device, self.point.detach().cpu().contiguous()
        file = folder / f"{name}.bead"
        if not file.exists():
            write_atomically(file, lambda temporary: temporary.write_bytes(point.view(torch.uint8).numpy().data))
        self.point = torch.from_file(str(file), shared=False, size=point.numel(), dtype=point.dtype).to(place)
        self._named, self._stored = (self.point._version, name), True


def _check_alike(rows: tuple[Tensor, ...]) -> None:
    kinds = {(tuple(row.shape), row.dtype, row.device) for row in rows}
    if len(rows) < 2 or len(kinds) != 1 or rows[0].ndim != 1 or not rows[0].is_floating_point():
        shown = ", ".join(sorted(f"{shape} {dtype} {device}" for shape, dtype, device in kinds))
        raise InputError(
            f"a path needs two floating-point beads (p,) or more of one size, dtype and device, got {len(rows)}: {shown}"
        )


def _check_finite(rows: tuple[Tensor, ...]) -> None:
    if not all(map(all_finite, rows)):
        raise NotFinite("a path needs finite beads, got NaN or infinity")
