"""The figures of a tree as comma-separated values."""

from dss.page.figures.tables import written
from dss.page.figures.tree import Places, component_counts
from dss.topology.tree import MergeTree


def matrix_table(tree: MergeTree) -> str:
    """CSV of all pairs: straight line, best path of their own, tree's path, lower value, whether searched and proved."""
    searched = {s.pair for s in tree.searches}
    rows = [
        (tree.names[i], tree.names[j], *(m[i, j].item() for m in (tree.straight, tree.direct, tree.upper, tree.lower)),
         (i, j) in searched, bool(tree.proven[i, j]))
        for i in range(len(tree)) for j in range(i + 1, len(tree))
    ]  # fmt: skip
    return written(("one", "other", "straight", "own path", "known above", "known below", "searched", "proved"), rows)


def merges_table(tree: MergeTree) -> str:
    """CSV of the tree's merges."""
    rows = [
        (m.height, m.lower, m.proven, tree.names[m.dead], tree.names[m.survivor], m.birth, m.persistence) for m in tree.merges
    ]
    return written(("height", "not below", "proved", "ends", "goes on", "birth", "persistence"), rows)


def components_table(tree: MergeTree) -> str:
    """CSV of the counts of components."""
    levels, counts = component_counts(tree)
    rows = [(level, *row) for level, row in zip(levels.tolist(), counts.tolist(), strict=True)]
    return written(("threshold", "at least", "at most", "by straight lines"), rows)


def map_table(tree: MergeTree, places: Places) -> str:
    """CSV of where the points lie."""
    rows = [(name, *point, birth) for name, point, birth in zip(tree.names, places.points.tolist(), tree.births.tolist())]
    return written(("point", *places.titles, "loss"), rows)
