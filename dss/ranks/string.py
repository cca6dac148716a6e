"""A string of which every rank holds a share.

Segments are dealt to the ranks in order, as evenly as they can be; a rank holds the beads of its own segments, so a bead between
two shares is held twice. All ranks know all digests, and thereby who holds what: what must move is sent by one who holds it,
without asking. On a rank a bead of others is a tensor without numbers (`Path.partial`).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from dss.base.digest import digest
from dss.base.path import Path
from dss.ranks.group import is_first, merged, shares

Key = TypeVar("Key")


def blocks(beads: int) -> list[range]:
    """Which beads of a string of so many each rank holds; none where there are fewer segments than ranks."""
    return [range(int(own[0]), int(own[-1]) + 2) if len(own) else range(0) for own in shares(beads - 1)]


def spread(path: Path) -> Path:
    """A path that every rank holds whole, with this rank's share of it alone."""
    own = blocks(len(path))[dist.get_rank()]
    return Path.partial([row if i in own else absent(row) for i, row in enumerate(path.rows)], path.digests)


def absent(row: Tensor) -> Tensor:
    """A stand-in of a bead that lies elsewhere."""
    return torch.empty_like(row, device="meta")


def dealt(path: Path, segments: Tensor, like: Tensor) -> tuple[Tensor, Path | None]:
    """This rank's share of some segments, dealt evenly, with beads of others where it needs them.

    Args:
        path: a path that is spread.
        segments: `(m,)`.
        like: a point; its device and dtype are those of all beads.

    Returns:
        The share, as numbers in `segments`, and a path of which those are segments 0, 2, 4, ..., in order; None for no share.
    """
    parts = [segments[own].tolist() for own in shares(len(segments))]
    wanted = [{bead for segment in part for bead in (segment, segment + 1)} for part in parts]
    held = dict(enumerate(path.rows))
    here = exchanged(held, _holders(len(path)), wanted, like)
    beads = [bead for segment in parts[dist.get_rank()] for bead in (segment, segment + 1)]
    own = Path.partial([here[bead] for bead in beads], [path.digests[bead] for bead in beads]) if beads else None
    return shares(len(segments))[dist.get_rank()], own


def grown(path: Path, chosen: Sequence[int], trained: Mapping[int, Tensor], like: Tensor) -> Path:
    """A path that is spread, with one bead more in each of some segments, and dealt anew.

    Args:
        path: a path that is spread.
        chosen: segments, ascending.
        trained: the new beads `(p,)` that this rank has, by segment; which of them it has is as `dealt` says.
        like: a point; its device and dtype are those of all beads.
    """
    names = merged({segment: digest(bead) for segment, bead in trained.items()})
    order = [key for i in range(len(path)) for key in ((i, 0), (i, 1)) if key[1] == 0 or i in names]
    holders = {(i, 0): ranks for i, ranks in _holders(len(path)).items()}
    for rank, own in enumerate(shares(len(chosen))):
        holders |= {(chosen[int(number)], 1): [rank] for number in own}
    held = {(i, 0): row for i, row in enumerate(path.rows)} | {(i, 1): bead for i, bead in trained.items()}
    own = blocks(len(order))
    here = exchanged(held, holders, [{order[i] for i in block} for block in own], like)
    if any((i, 1) not in here for i in trained):  # some leave, and the matrix in which all of them were trained with them
        here |= {(i, 1): bead.clone() for i, bead in trained.items() if (i, 1) in here}
    rows = [here[key] if i in own[dist.get_rank()] else absent(like) for i, key in enumerate(order)]
    return Path.partial(rows, [names[i] if new else path.digests[i] for i, new in order])


def fresh(path: Path, sent: set[str], like: Tensor) -> Iterator[tuple[str, Tensor]]:
    """On the first rank, digests and beads that are not in `sent`, one at a time; the others hand theirs over meanwhile.

    Every rank must go through it to its end, with the same `sent`, which takes in what was handed over.

    Args:
        path: a path that is spread.
        sent: digests.
        like: a point; its device and dtype are those of all beads.
    """
    if not dist.is_initialized():
        return
    holders, others = _holders(len(path)), [()] * (dist.get_world_size() - 1)
    for i, (name, row) in enumerate(zip(path.digests, path.rows, strict=True)):
        if name not in sent:
            sent.add(name)
            found = exchanged({i: row}, {i: holders[i]}, [{i}, *others], like)
            if is_first():
                yield name, found[i]


def exchanged(
    held: Mapping[Key, Tensor], holders: Mapping[Key, Sequence[int]], wanted: Sequence[Collection[Key]], like: Tensor
) -> dict[Key, Tensor]:
    """The points that this rank wants: its own, and those that it is sent.

    Args:
        held: points by name; those that count are this rank's by `holders`.
        holders: which ranks hold a point, the same on every rank and in the same order.
        wanted: what each rank wants, the same on every rank.
        like: a point; received ones are of its dtype on its device.
    """
    rank, found = dist.get_rank(), {}
    for name, ranks in holders.items():
        for reader in (reader for reader, names in enumerate(wanted) if name in names):
            if reader in ranks:
                if rank == reader:
                    found[name] = held[name]
            elif rank == ranks[0]:
                dist.send(held[name].contiguous(), reader)
            elif rank == reader:
                found[name] = torch.empty_like(like)
                dist.recv(found[name], ranks[0])
    return found


def _holders(beads: int) -> dict[int, list[int]]:
    """The ranks that hold each bead."""
    own = blocks(beads)
    return {i: [rank for rank, block in enumerate(own) if i in block] for i in range(beads)}
