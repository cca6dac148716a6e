"""How K points hang together: the merge tree of what is known of their barriers, and the paths that witness it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf, isfinite
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from dss.base.digest import digest
from dss.base.errors import InputError
from dss.base.path import Path
from dss.base.shown import Drawn
from dss.topology.closure import Edge, classes_below, lower_closure, parted, spanning_tree, upper_closure
from dss.topology.points import Pair
from dss.topology.searching import Searched

# A component that lives on for less than this share of its birth may only seem to: searches stop before.
LINGERING = 0.05


class Merge(NamedTuple):
    """Two components that become one as the threshold rises: the younger one, by the elder rule, ends there.

    Attributes:
        height: an upper value of the threshold at which they are joined.
        dead: the lowest point of the component that ends: the one that was born higher (with equal births, the point of
            higher index).
        persistence: `height` less the birth of the component that ends.
        lower: no path joins the two components below it.
        birth: the loss at `dead`.
        survivor: the lowest point of the component that goes on.
        pair: the two points whose path joins them.
        proven: whether `height` is proved and not only sampled.
        first, second: members of the two components, `pair`'s first point in the first.
    """

    height: float
    dead: int
    persistence: float
    lower: float
    birth: float
    survivor: int
    pair: Pair
    proven: bool
    first: tuple[int, ...]
    second: tuple[int, ...]

    @property
    def apart(self) -> bool:
        """Whether it is proved that the component that ends was ever apart from the other: a gap above its birth."""
        return self.lower > self.birth


@dataclass(frozen=True, eq=False, repr=False)
class MergeTree(Drawn):
    """The merge tree (a disconnectivity graph) of K points, with intervals for heights.

    A component of the level set that is born above the lowest point holds a local minimum that is not global (Freeman &
    Bruna 2017, proposition 2.1, read backwards): `candidates` names the points whose components these may be.

    Attributes:
        names: of the points, for people.
        births: `(K,)` float64, the points' losses.
        straight: `(K, K)` float64, the largest loss seen on each straight line, the births on the diagonal.
        floors: `(K, K)` float64, lower values: the higher end's loss, or a wall that an obstruction proves.
        searches: what was searched, or only certified, in the order in which it was asked for.
        points: `(K, p)`; copies with their units in another order where they were aligned.
        direct: `(K, K)` float64, an upper value of each pair's own path, a search's or the straight line's: the proved bound
            or, without a proof, the largest loss seen.
        proven: `(K, K)`, whether that value is proved for every point of the path.
        upper: `(K, K)`, upper values by the tree: every pair is joined at this threshold, by `path(i, j)`.
        certain: `(K, K)`, closed upper values of the proved paths alone; infinite where none join a pair.
        lower: `(K, K)`, closed lower values: no path joins the pair below. All of them are proved.
        merges: by height, lowest first; fewer than K - 1 where points coincide.
        paths: of the tree's pairs `(i, j)`, i < j, from i to j.

    Raises:
        RuntimeError: a lower value above an upper one.
    """

    names: tuple[str, ...]
    births: Tensor
    straight: Tensor
    floors: Tensor
    searches: tuple[Searched, ...]
    points: Tensor
    direct: Tensor = field(init=False, repr=False)
    proven: Tensor = field(init=False, repr=False)
    upper: Tensor = field(init=False)
    lower: Tensor = field(init=False)
    certain: Tensor = field(init=False, repr=False)
    merges: tuple[Merge, ...] = field(init=False)
    paths: Mapping[Pair, Path] = field(init=False, repr=False)
    drawn: ClassVar[str] = "tree"

    def __post_init__(self):
        best = self._best()
        seen, direct, proven = self.straight.clone(), self.straight.clone(), torch.zeros_like(self.straight, dtype=torch.bool)
        for (i, j), searched in best.items():
            # The losses of the ends bound every path from below; evaluated in another batch they may be rounded otherwise.
            ends = self.births[[i, j]].max().item()
            seen[i, j] = seen[j, i] = max(ends, min(searched.seen, seen[i, j].item()))
            direct[i, j] = direct[j, i] = max(ends, searched.upper)
            proven[i, j] = proven[j, i] = searched.proven
        proven |= _copies(self.points)
        edges = _tree_by(seen, direct)
        # What follows from samples is not proved: lower values spread over proved upper values alone.
        certain = upper_closure(torch.where(proven, direct, inf).diagonal_scatter(self.births))
        own = {e.pair: best[e.pair].path if e.pair in best else Path.straight(*self.points[list(e.pair)]) for e in edges}
        found = {"direct": direct, "proven": proven, "certain": certain, "paths": own, "upper": upper_closure(direct, edges)}
        found["lower"] = lower_closure(self.floors, certain)
        for name, value in found.items():
            object.__setattr__(self, name, value)
        _check_consistent(self.lower, self.upper, self.names)
        object.__setattr__(self, "merges", tuple(map(self._merge, edges)))

    def _best(self) -> dict[Pair, Searched]:
        """For every pair that was searched the result that lies lowest, unless the straight line lies lower."""
        best: dict[Pair, Searched] = {}
        for searched in self.searches:
            pair = searched.pair
            # A straight line that was certified is the straight line, though its losses were rounded in another batch.
            known = inf if len(searched.path) == 2 else self.straight[pair].item()
            if searched.seen <= min(known, best[pair].seen if pair in best else inf):
                best[pair] = searched
        return best

    def __len__(self) -> int:
        return len(self.births)

    def components(self, threshold: float) -> tuple[int, int]:
        """Between how many components of the level set the points at or below a threshold lie: at least, and at most.

        Several points may lie in one component, and other components may hold none of them: this counts those that hold
        some. The lower number is proved: so many points are parted, pair by pair. The upper one is what paths join,
        proved where `components_proven` says so.
        """
        return parted(self.lower, self.certain, threshold), len(classes_below(self.upper, threshold))

    def components_proven(self, threshold: float) -> bool:
        """Whether proved paths alone give the upper number too."""
        return len(classes_below(self.certain, threshold)) == len(classes_below(self.upper, threshold))

    def components_in_words(self, threshold: float) -> str:
        """ "1 component, proved" where both numbers agree and rest on proofs; what is known where not."""
        least, most = self.components(threshold)
        known = "proved" if self.components_proven(threshold) else "sampled"
        if most == 0:
            return f"no point lies at or below {threshold:.4g}"
        if least == most:
            return f"{most} component{'' if most == 1 else 's'}, {known}"
        return f"between {least} (proved) and {most} ({known}) components"

    def path(self, i: int, j: int) -> Path:
        """The path that witnesses `upper[i, j]`: the tree's paths from i to j, joined.

        Raises:
            InputError: there is no such point, or no path between them is known.
        """
        for index in (i, j):
            if not 0 <= index < len(self):
                raise InputError(f"points are numbered 0 to {len(self) - 1}, got {index}")
        stops = self._route(i, j)
        beads = [self.points[i][None]]
        for a, b in pairwise(stops):
            piece = self.paths[min(a, b), max(a, b)].beads
            beads.append((piece if a < b else piece.flip(0))[1:])
        return Path(torch.cat(beads if len(beads) > 1 else beads * 2))

    def __repr__(self) -> str:
        searched = {searched.pair for searched in self.searches}
        return f"MergeTree({self.in_words()}; {len(searched)} of {len(self) * (len(self) - 1) // 2} pairs searched)"

    def in_words(self) -> str:
        """At which threshold the points are joined, as far as is known."""
        top = self.upper.max().item()
        known = "proved" if bool(self.certain.max() <= top) else "sampled"
        return f"{len(self)} points, all joined at {top:.6g}, {known}; losses from {self.births.min():.6g} to {self.births.max():.6g}"

    @property
    def order(self) -> tuple[int, ...]:
        """The points in an order in which every component of the tree stands together, the lowest point's side first."""
        rows: dict[int, tuple[int, ...]] = {i: (i,) for i in range(len(self))}
        for merge in self.merges:
            joined = rows[merge.survivor] + rows[merge.dead]
            rows.update(dict.fromkeys(joined, joined))
        return tuple(i for row in dict.fromkeys(rows.values()) for i in row)

    @property
    def candidates(self) -> tuple[Merge, ...]:
        """Merges whose dying component was born above the lowest point and lived on for a while, as far as is known.

        A while is 5 % of the birth: searches stop about so close. The lowest point may lie in the basin of a poor local
        minimum. Proved is at most that it was apart (`Merge.apart`);
        where it was not, a better search may still join it to the others at its birth.
        """
        lowest = self.births.min().item()
        return tuple(merge for merge in self.merges if merge.birth > lowest and merge.persistence > LINGERING * abs(merge.birth))

    def to_newick(self) -> str:
        """The tree in the Newick format, which programs for phylogenies read; lengths of branches are differences of loss."""
        rows = {i: (_quoted(name), self.births[i].item()) for i, name in enumerate(self.names)}
        for merge in self.merges:
            sides = (rows[merge.survivor], rows[merge.dead])
            inside = ",".join(f"{text}:{merge.height - height:.9g}" for text, height in sides)
            rows.update(dict.fromkeys((*merge.first, *merge.second), (f"({inside}){merge.height:.9g}", merge.height)))
        trees = list(dict.fromkeys(text for text, _ in rows.values()))
        return f"{trees[0]};" if len(trees) == 1 else f"({','.join(trees)});"

    def as_json(self) -> dict[str, Any]:
        """All figures as JSON values; what is not known is null."""
        matrices = ("straight", "direct", "upper", "lower")
        return {
            "names": list(self.names),
            "births": self.births.tolist(),
            "order": list(self.order),
            "merges": [merge._asdict() | {"apart": merge.apart} for merge in self.merges],
            "searches": [searched.as_json() for searched in self.searches],
            **{name: [list(map(_number, row)) for row in getattr(self, name).tolist()] for name in matrices},
            "proven": self.proven.tolist(),
        }

    def _merge(self, edge: Edge) -> Merge:
        """The elder rule on one edge of the tree."""
        lowest = [min(members, key=lambda i: (self.births[i].item(), i)) for members in (edge.first_class, edge.second_class)]
        survivor, dead = sorted(lowest, key=lambda i: (self.births[i].item(), i))
        birth = self.births[dead].item()
        one, other = torch.tensor(edge.first_class), torch.tensor(edge.second_class)
        # The components are joined where any two of their points are, so the least lower value bounds the height.
        lower = self.lower[one[:, None], other].min().item()
        proven = bool(self.proven[edge.pair])
        return Merge(
            edge.value, dead, edge.value - birth, lower, birth, survivor, edge.pair, proven, edge.first_class, edge.second_class
        )

    def _route(self, i: int, j: int) -> list[int]:
        """The points that the tree leads over from i to j."""
        neighbours: dict[int, list[int]] = {k: [] for k in range(len(self))}
        for a, b in self.paths:
            neighbours[a].append(b)
            neighbours[b].append(a)
        before, queue = {i: i}, [i]
        for k in queue:
            fresh = [m for m in neighbours[k] if m not in before]
            before |= dict.fromkeys(fresh, k)
            queue += fresh
        if j not in before:
            raise InputError(f"no path between {self.names[i]} and {self.names[j]} is known: their straight line is not finite")
        return list(_back(before, j))[::-1]


def _back(before: Mapping[int, int], k: int) -> Iterator[int]:
    """From a point back to where the walk began."""
    yield k
    while before[k] != k:
        k = before[k]
        yield k


def _copies(points: Tensor) -> Tensor:
    """Which points are the same as others, `(K, K)`: the path between them is that point, whose loss is known as births are."""
    names = [digest(point) for point in points]
    return torch.tensor([[one == other for other in names] for one in names]).fill_diagonal_(False)


def _tree_by(seen: Tensor, direct: Tensor) -> list[Edge]:
    """The spanning tree of the largest losses seen, its edges in the order of their upper values.

    Proved bounds lie a little above what was seen. Were the tree chosen by them, a pair that was only sampled could take the
    place of one that was proved, for being known less well.
    """
    own = torch.full_like(direct, inf)
    for edge in spanning_tree(seen):
        own[edge.pair] = own[edge.pair[::-1]] = direct[edge.pair]
    return spanning_tree(own)


def _check_consistent(lower: Tensor, upper: Tensor, names: Sequence[str]) -> None:
    """A path below a proved wall is a mistake of ours, or samples that missed a spike: never an answer."""
    wrong = torch.nonzero(lower > upper)
    if len(wrong):
        i, j = wrong[0].tolist()
        raise RuntimeError(
            f"internal contradiction: no path between {names[i]} and {names[j]} stays below {lower[i, j]:.9g}, yet one was found whose "
            f"largest loss is {upper[i, j]:.9g}; either its samples missed a spike of the loss, or this is a mistake of the package"
        )


def _quoted(name: str) -> str:
    """A label of the Newick format: anything in single quotes, which are doubled inside."""
    return "'" + name.replace("'", "''") + "'"


def _number(value: float) -> float | None:
    return value if isfinite(value) else None
