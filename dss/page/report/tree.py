"""The page of a tree: how many components, the tree, the matrix, the map."""

import os
from pathlib import Path as FilePath

from dss._connection import versions
from dss.base.errors import InputError
from dss.base.files import write_text
from dss.page.figures import tree as figures
from dss.page.figures import tree_tables as tables
from dss.page.figures.style import number
from dss.page.report.render import Drawing, Page, render
from dss.page.report.words import above
from dss.runs import REPORT
from dss.topology.tree import Merge, MergeTree, Pair

# Above the highest loss of a model, where components are counted in words: searches stop closer than this.
MARGIN = 0.05
# Rows of the table of merges, highest first.
ROWS = 40
COLUMNS = ("joined at", "not below", "known", "ends there", "goes on", "born at", "persistence")


def write_tree(tree: MergeTree, out: FilePath, *, data: str, trajectory: bool = False, aligned: str | None = None) -> FilePath:
    """Write the page of a tree, replacing the file.

    Args:
        tree: see `dss.merge_tree`.
        out: the page; runs of pairs are linked relative to it.
        data: the judge's description.
        trajectory: the points are checkpoints of one training run, in order.
        aligned: how the units were reordered, if they were.
    """
    out = FilePath(out)
    write_text(out, render(page_of(tree, _links(tree, out), data, trajectory, aligned)))
    return out


def page_of(tree: MergeTree, links: dict[Pair, str], data: str, trajectory: bool, aligned: str | None) -> Page:
    """What the page says."""
    drawings = [_tree_drawing(tree, data), _matrix_drawing(tree, links), _components_drawing(tree)]
    if trajectory and len(tree) > 1:
        drawings.insert(0, _steps_drawing(tree))
    drawings += _maps(tree, trajectory)
    what = "Checkpoints of one training run" if trajectory else "Sets of weights of one network"
    modulo = f" Copies with their units reordered (aligned by {aligned}) stand for the models." if aligned else ""
    return Page(
        title=f"{counted(len(tree))}, and how they hang together",
        about=f"{what}: {_few(tree.names)}. Judged by: {data}.{modulo}",
        verdict=verdict(tree),
        facts={"Key figures": _key_figures(tree)},
        drawings=drawings,
        table=(COLUMNS, [_row(tree, merge) for merge in tree.merges[: -ROWS - 1 : -1]]) if tree.merges else None,
        missing=_candidates(tree),
        footer="Made with " + ", ".join(f"{name} {version}" for name, version in versions().items()),
    )


def counted(models: int) -> str:
    """ "1 model", "2 models"."""
    return f"{models} model{'' if models == 1 else 's'}"


def verdict(tree: MergeTree) -> tuple[str, str]:
    """A word (`proven` or `sampled`), and the sentence for people."""
    if len(tree) == 1:
        return "sampled", f"One model, with a loss of {number(tree.births[0].item())}: there is nothing to join."
    top = tree.upper.max().item()
    proven = tree.components_proven(top)
    how = "proved at every point of every path" if proven else "looked at point by point, not proved"
    return "proven" if proven else "sampled", (
        f"All {len(tree)} models lie in one component of the level set at the loss {above(top) if proven else number(top)}: paths below "
        f"it join them, {how}. Straight lines alone join them at {number(_straight_top(tree))}."
    )


def _key_figures(tree: MergeTree) -> list[tuple[str, str, str]]:
    worst, count = tree.births.max().item(), len(tree)
    level = worst + MARGIN * abs(worst)
    searched = [s for s in tree.searches if s.finder != "straight"]
    rows = [
        ("models", str(count), f"losses from {number(tree.births.min().item())} to {number(worst)}"),
        ("all models in", tree.components_in_words(level), f"at {number(level)}, {MARGIN:.0%} above the highest loss of a model"),
        ("searched pairs", f"{len(searched)} of {count * (count - 1) // 2}", "the others are straight lines in the matrix"),
        (
            "proved joins",
            f"{sum(m.proven for m in tree.merges)} of {len(tree.merges)}",
            "heights of the tree that hold at every point",
        ),
        ("search and proof", f"{sum(s.seconds for s in tree.searches):.1f} s", "time of all pairs together"),
    ]
    return rows


def _candidates(tree: MergeTree) -> list[str]:
    """Whose components may hold poor local minima, and what is proved of it."""
    named = [
        f"{tree.names[m.dead]} ({number(m.birth)} to {number(m.height)}{', proved apart' if m.apart else ''})"
        for m in tree.candidates
    ]
    if not named:
        return []
    return [
        "A component of the level set that is born above the lowest loss holds a local minimum that is not global (Freeman & Bruna 2017, "
        f"proposition 2.1). Candidates, from birth to the height at which a path joins them: {_few(named)}.",
        "Unless it says “proved apart”, a lower path may exist that the search did not find.",
    ]


def _row(tree: MergeTree, merge: Merge) -> list[str]:
    height = above(merge.height) if merge.proven else number(merge.height)
    known = "proved" if merge.proven else "sampled"
    if merge.pair not in {s.pair for s in tree.searches}:
        known = "sampled, straight line"
    return [
        height, number(merge.lower), known, tree.names[merge.dead], tree.names[merge.survivor], number(merge.birth), number(merge.persistence),
    ]  # fmt: skip


def _tree_drawing(tree: MergeTree, data: str) -> Drawing:
    return Drawing(
        name="tree",
        title="The merge tree",
        caption=f"Every model starts at its loss ({data}); lines join at the loss below which a path between the two components is known. A "
        "bar reaches down to what is proved from below: no path joins them under it. Filled green joints are proved, open orange ones "
        "sampled. By the elder rule, the component that was born higher ends at a joint.",
        variants={"tree": figures.merge_tree_figure(tree)},
        csv=tables.merges_table(tree),
        kind="space" if len(tree) > 20 else "flat",
    )


def _matrix_drawing(tree: MergeTree, links: dict[Pair, str]) -> Drawing:
    click = " Click a searched cell for the page of its run." if links else ""
    return Drawing(
        name="matrix",
        title="Barriers between all pairs",
        caption="The loss below which a path is known, for every pair, in the order of the tree; the diagonal is the models' own loss. Red "
        f"rings mark pairs that were searched or certified; the others are bounded by the tree's paths, never by a search of their own.{click}",
        variants={
            "known barriers": figures.barrier_matrix(tree, runs=links),
            "straight lines": figures.barrier_matrix(tree, known=False, runs=links),
        },
        csv=tables.matrix_table(tree),
        kind="plane",
    )


def _components_drawing(tree: MergeTree) -> Drawing:
    return Drawing(
        name="components",
        title="Components against the threshold",
        caption=f"How many components of the level set hold models, at {figures.THRESHOLDS} thresholds: between the green line (proved: so many are "
        "parted) and the blue one (so many are left when paths are followed). The dashed line is what straight lines alone would say.",
        variants={"components": figures.components_by_threshold(tree)},
        csv=tables.components_table(tree),
    )


def _steps_drawing(tree: MergeTree) -> Drawing:
    return Drawing(
        name="steps",
        title="From each checkpoint to the next",
        caption="The loss of every checkpoint, and between each and the next the largest loss on the straight line (crosses) and on the path "
        "that was searched (diamonds).",
        variants={"steps": figures.steps_of_trajectory(tree)},
    )


def _maps(tree: MergeTree, trajectory: bool) -> list[Drawing]:
    """The models in the plane, as far as there are enough of them to span one."""
    places = {}
    for name, place in (
        ("by weights", lambda: figures.map_by_weights(tree.points)),
        ("by barriers", lambda: figures.map_by_barriers(tree)),
    ):
        try:
            places[name] = place()
        except InputError:  # one model, or copies of one
            continue
    if not places:
        return []
    lines = "The curve joins each checkpoint to the next" if trajectory else "Lines are the tree's paths"
    return [
        Drawing(
            name="map",
            title="The models in the plane",
            caption=f"By weights: the first two principal axes of the models' parameters. By barriers: points whose distances resemble how high the "
            f"barriers rise (classical scaling). Colour is the loss. {lines}: green where proved, dashed where sampled.",
            variants={name: figures.map_of_points(tree, place, trajectory=trajectory) for name, place in places.items()},
            csv=tables.map_table(tree, next(iter(places.values()))),
            kind="plane",
        )
    ]


def _links(tree: MergeTree, out: FilePath) -> dict[Pair, str]:
    """The pages of runs, as the tree's page reaches them."""
    runs = {s.pair: FilePath(s.run) / REPORT for s in tree.searches if s.run is not None}
    return {
        pair: os.path.relpath(page, out.resolve().parent).replace(os.sep, "/") for pair, page in runs.items() if page.exists()
    }


def _straight_top(tree: MergeTree) -> float:
    lines = MergeTree(tree.names, tree.births, tree.straight, tree.floors, (), tree.points)
    return lines.upper.max().item()


def _few(names, most: int = 12) -> str:
    return ", ".join(list(names)[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
