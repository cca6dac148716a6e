"""The map of many points: the merge tree, the matrix of barriers, the number of components, the points in the plane."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.page.figures.scales import loss_scales, with_scales
from dss.page.figures.style import ABOVE, PATH, PROVEN, STRAIGHT, THRESHOLD, LossColours, axis, layout, log_ticks, number
from dss.page.projection import Projection
from dss.topology.tree import MergeTree, Pair

# Thresholds at which components are counted: as many as Freeman & Bruna evaluate their sampled level sets at.
THRESHOLDS = 101
# Names are drawn slanted beyond so many, and not at all beyond so many more.
SLANTED, UNNAMED = 8, 60


@dataclass(frozen=True, eq=False)
class Places:
    """Points in the plane: `(K, 2)`, and what the two axes are."""

    points: Tensor
    titles: tuple[str, str]


def merge_tree_figure(tree: MergeTree) -> go.Figure:
    """The tree: a line for every point from its loss upwards, joined where paths join them; bars are what is not known.

    The height of a join lies between its two ends: above the bar a path is known, below it none can be.
    """
    place = {i: float(x) for x, i in enumerate(tree.order)}
    foot = dict(enumerate(tree.births.tolist()))
    root = {i: i for i in range(len(tree))}
    x: list[float | None] = []
    y: list[float | None] = []
    joints = []
    for merge in tree.merges:
        sides = [root[merge.pair[0]], root[merge.pair[1]]]
        for side in sides:
            x += [place[side], place[side], None]
            y += [foot[side], merge.height, None]
        left, right = (place[side] for side in sides)
        x, y = [*x, left, right, None], [*y, merge.height, merge.height, None]
        joints.append(((left + right) / 2, merge))
        for member in (*merge.first, *merge.second):
            root[member] = sides[0]
        place[sides[0]], foot[sides[0]] = (left + right) / 2, merge.height
    figure = go.Figure(
        [
            go.Scatter(x=x, y=y, mode="lines", line={"color": PATH, "width": 2}, hoverinfo="skip", showlegend=False),
            *_joints(tree, joints),
            _leaves(tree),
        ]
    )
    margin = {"l": 62, "r": 16, "t": 30, "b": 80}
    look = layout(xaxis=_names_axis(tree), yaxis=axis("loss"), hovermode="closest", margin=margin)
    heights = [*tree.births.tolist(), *(merge.height for merge in tree.merges)]
    return figure.update_layout(with_scales(look, loss_scales(None, heights, None)))


def barrier_matrix(tree: MergeTree, *, known: bool = True, runs: Mapping[Pair, str] | None = None) -> go.Figure:
    """Barriers of all pairs as a heat map, in the order of the tree; a red ring marks what was searched.

    Args:
        known: what the tree knows; else the straight lines alone.
        runs: addresses of the runs of pairs, for cells that are clicked.
    """
    order, runs = list(tree.order), runs or {}
    values = (tree.upper if known else tree.straight)[order][:, order]
    colours = LossColours.of(values.flatten(), float("nan"))
    names = [tree.names[i] for i in order]
    searched = {s.pair: s for s in tree.searches}
    text = [[_cell_words(tree, i, j, searched.get((min(i, j), max(i, j)))) for j in order] for i in order]
    links = [[runs.get((min(i, j), max(i, j)), "") for j in order] for i in order]
    places = list(range(len(order)))
    heat = go.Heatmap(
        x=places, y=places, z=colours.values(values), coloraxis="coloraxis", text=text, customdata=links,
        hovertemplate="%{text}<extra></extra>", xgap=1, ygap=1,
    )  # fmt: skip
    place = {i: k for k, i in enumerate(order)}
    marks = [(place[i], place[j]) for pair in searched for i, j in (pair, pair[::-1])]
    rings = go.Scatter(
        x=[a for a, _ in marks], y=[b for _, b in marks], mode="markers", name="searched, or certified as it is", hoverinfo="skip",
        marker={"symbol": "circle-open", "size": 9, "color": ABOVE, "line": {"width": 2, "color": ABOVE}},
    )  # fmt: skip
    figure = go.Figure([heat, rings] if marks else [heat])
    shown = names if len(names) <= UNNAMED else [""] * len(names)
    ticks = {"tickvals": places, "ticktext": shown, "showgrid": False, "constrain": "domain", "ticks": "", "showline": False}
    figure.update_layout(
        layout(
            xaxis=axis("", range=[-0.5, len(order) - 0.5], **ticks),
            yaxis=axis("", range=[len(order) - 0.5, -0.5], scaleanchor="x", scaleratio=1, **ticks),
            coloraxis=colours.axis(y=-0.16, len=1.0),
            showlegend=False,
            margin={"l": 62, "r": 16, "t": 20, "b": 120},
        )
    )
    return figure


def component_counts(tree: MergeTree) -> tuple[Tensor, Tensor]:
    """Thresholds `(101,)`, and at each the number of components `(101, 3)`: at least, at most, and by straight lines alone."""
    low = tree.births.min().item()
    heights = torch.cat([tree.upper.flatten(), tree.straight.flatten()])
    high = heights[heights.isfinite()].max().item()
    high = high if high > low else low + (abs(low) or 1.0)
    if low > 0:
        levels = torch.logspace(np.log10(low), np.log10(1.05 * high), THRESHOLDS, dtype=torch.float64)
    else:
        levels = torch.linspace(low, high + 0.05 * (high - low), THRESHOLDS, dtype=torch.float64)
    lines = MergeTree(tree.names, tree.births, tree.straight, tree.floors, (), tree.points)
    rows = [(*tree.components(level), lines.components(level)[1]) for level in levels.tolist()]
    return levels, torch.tensor(rows)


def components_by_threshold(tree: MergeTree) -> go.Figure:
    """Between how many components of the level set the points lie, at 101 thresholds; and what straight lines alone say."""
    levels, counts = component_counts(tree)
    x, (least, most, straight) = levels.numpy(), counts.T.numpy()
    shape = {"shape": "hv"}
    # A threshold between two of these belongs to the lower one: counts are steps.
    hover = {"hovertemplate": "at %{x:.4g}: %{y}<extra>%{fullData.name}</extra>"}
    figure = go.Figure(
        [
            go.Scatter(x=x, y=straight, name="by straight lines alone", mode="lines", line={"color": STRAIGHT, "dash": "dash", **shape}, **hover),
            go.Scatter(x=x, y=least, name="at least, proved", mode="lines", line={"color": PROVEN, "width": 6, **shape}, **hover),
            go.Scatter(
                x=x, y=most, name="at most, by paths found", mode="lines", line={"color": PATH, "width": 2.5, **shape},
                fill="tonexty", fillcolor="rgba(0,114,178,0.15)", **hover,
            ),
        ]
    )  # fmt: skip
    log = levels[0].item() > 0
    ticks = log_ticks(levels.tolist()) if log else {}
    figure.update_layout(
        layout(
            xaxis=axis("threshold", **({"type": "log"} | ticks if log else {})),
            yaxis=axis("components that hold models", rangemode="tozero", dtick=max(1, round(len(tree) / 8))),
            hovermode="x",
        )
    )
    return figure


def map_by_weights(points: Tensor) -> Places:
    """The points `(K, p)` on their first two principal axes.

    Raises:
        InputError: fewer than two points, or points that coincide.
    """
    projection = Projection.principal(points, 2)
    shares = [0.0, 0.0] if projection.explained is None else projection.explained.tolist()
    titles = tuple(f"axis {k + 1} of the weights ({share:.0%})" for k, share in enumerate(shares))
    return Places(projection.project(points), (titles[0], titles[1]))


def map_by_barriers(tree: MergeTree) -> Places:
    """The points where distances resemble barriers: classical scaling of how far each pair's barrier lies above its ends.

    Source: Torgerson 1952 (classical multidimensional scaling): the leading eigenvectors of the centred squared distances.

    Raises:
        InputError: fewer than two points, or a pair whose barrier is not known.
    """
    distances = tree.upper - tree.births.min()
    distances = distances.fill_diagonal_(0.0) if len(tree) > 1 else distances
    if len(tree) < 2 or not distances.isfinite().all():
        raise InputError("a map by barriers needs two points or more, all of them joined")
    centring = torch.eye(len(tree), dtype=torch.float64) - 1 / len(tree)
    values, vectors = torch.linalg.eigh(-0.5 * centring @ distances.square() @ centring)
    axes = vectors[:, -2:].flip(1) * values[-2:].flip(0).clamp_min(0).sqrt()
    # Signs of eigenvectors are arbitrary: the point that lies farthest out lies on the positive side.
    axes = axes * torch.where(axes.gather(0, axes.abs().argmax(0)[None])[0] < 0, -1.0, 1.0)
    return Places(axes, ("barriers, axis 1", "barriers, axis 2"))


def map_of_points(tree: MergeTree, places: Places, *, trajectory: bool = False) -> go.Figure:
    """Points in the plane, coloured by their loss, with the tree's paths as lines between them.

    Args:
        places: where the points lie.
        trajectory: the points are checkpoints of one training run: a curve joins each to the next.
    """
    points = places.points.double().numpy()
    pairs = [(i, i + 1) for i in range(len(tree) - 1)] if trajectory else list(tree.paths)
    traces = [_tie(tree, points, pair) for pair in pairs]
    colours = LossColours.of(tree.births, float("nan"))
    named = len(tree) <= UNNAMED
    dots = go.Scatter(
        x=points[:, 0], y=points[:, 1], mode="markers+text" if named else "markers", text=list(tree.names), textposition="top center",
        marker={"size": 13, "color": colours.values(tree.births), "coloraxis": "coloraxis", "line": {"width": 1.5, "color": "white"}},
        hovertext=[f"{name}: loss {number(birth)}" for name, birth in zip(tree.names, tree.births.tolist(), strict=True)],
        hovertemplate="%{hovertext}<extra></extra>", showlegend=False, cliponaxis=False,
    )  # fmt: skip
    figure = go.Figure([*traces, dots])
    figure.update_layout(
        layout(
            xaxis=axis(places.titles[0]), yaxis=axis(places.titles[1]), coloraxis=colours.axis(y=-0.2, len=1.0),
            margin={"l": 62, "r": 24, "t": 24, "b": 120}, hovermode="closest",
        )
    )  # fmt: skip
    return figure


def steps_of_trajectory(tree: MergeTree) -> go.Figure:
    """Checkpoints of one training run in order: their losses, and the barrier from each to the next."""
    pairs = [(i, i + 1) for i in range(len(tree) - 1)]
    between = [i + 0.5 for i, _ in pairs]
    hover = {"hovertemplate": "%{y:.5g}<extra>%{fullData.name}</extra>"}
    direct, straight = ([matrix[pair].item() for pair in pairs] for matrix in (tree.direct, tree.straight))
    figure = go.Figure(
        [
            go.Scatter(x=between, y=straight, name="straight line to the next", mode="markers", marker={"color": STRAIGHT, "symbol": "x-thin-open", "size": 9}, **hover),
            go.Scatter(x=between, y=direct, name="path to the next", mode="markers", marker={"color": THRESHOLD, "symbol": "diamond", "size": 9}, **hover),
            go.Scatter(x=list(range(len(tree))), y=tree.births.tolist(), name="loss", mode="lines+markers", line={"color": PATH}, **hover),
        ]
    )  # fmt: skip
    names = {"tickvals": list(range(len(tree))), "ticktext": list(tree.names) if len(tree) <= UNNAMED else None}
    look = layout(xaxis=axis("checkpoint", **names), yaxis=axis("loss"), hovermode="closest")
    return figure.update_layout(with_scales(look, loss_scales(None, [*tree.births.tolist(), *direct, *straight], None, log=True)))


def _joints(tree: MergeTree, joints: Sequence) -> list[go.Scatter]:
    """Where components join: filled where the height is proved, with a bar down to what is known below."""
    traces = []
    for proven, name in ((True, "joined, proved"), (False, "joined, sampled")):
        rows = [(x, merge) for x, merge in joints if merge.proven is proven]
        if rows:
            traces.append(_joint_trace(tree, rows, name, PROVEN if proven else THRESHOLD, "circle" if proven else "circle-open"))
    return traces


def _joint_trace(tree: MergeTree, rows: Sequence, name: str, colour: str, symbol: str) -> go.Scatter:
    return go.Scatter(
        x=[x for x, _ in rows], y=[m.height for _, m in rows], mode="markers", name=name,
        marker={"color": colour, "size": 9, "symbol": symbol, "line": {"color": colour, "width": 2}},
        error_y={"type": "data", "symmetric": False, "array": [0] * len(rows), "arrayminus": [m.height - m.lower for _, m in rows],
                 "color": colour, "thickness": 1.5, "width": 5},
        hovertext=[
            f"{tree.names[m.dead]} joins {tree.names[m.survivor]} at {number(m.height)}<br>not below {number(m.lower)}, persistence "
            f"{number(m.persistence)}" for _, m in rows
        ],
        hovertemplate="%{hovertext}<extra></extra>",
    )  # fmt: skip


def _leaves(tree: MergeTree) -> go.Scatter:
    order = list(tree.order)
    return go.Scatter(
        x=list(range(len(order))), y=[tree.births[i].item() for i in order], mode="markers", name="model, at its loss",
        marker={"color": PATH, "size": 8}, text=[tree.names[i] for i in order], hovertemplate="%{text}: %{y:.5g}<extra></extra>",
    )  # fmt: skip


def _names_axis(tree: MergeTree) -> dict:
    count = len(tree)
    names = [tree.names[i] for i in tree.order] if count <= UNNAMED else [""] * count
    slant = {"tickangle": -60} if count > SLANTED else {}
    return axis("", tickvals=list(range(count)), ticktext=names, showgrid=False, range=[-0.6, count - 0.4], **slant)


def _cell_words(tree: MergeTree, i: int, j: int, searched) -> str:
    """What a cell of the matrix says when it is touched."""
    if i == j:
        return f"{tree.names[i]}: loss {number(tree.births[i].item())}"
    own = (
        "not searched: straight line"
        if searched is None
        else f"{'certified' if searched.finder == 'straight' else 'searched'}, {'proved' if searched.proven else 'sampled'}"
    )
    return (
        f"{tree.names[i]} and {tree.names[j]} ({own})<br>joined at {number(tree.upper[i, j].item())} by the tree's paths"
        f"<br>own path {number(tree.direct[i, j].item())}, straight line {number(tree.straight[i, j].item())}"
        f"<br>not below {number(tree.lower[i, j].item())}"
    )


def _tie(tree: MergeTree, points: np.ndarray, pair: Pair) -> go.Scatter:
    """A line between two points of the map: solid where their path was proved, dashed where sampled."""
    proven = bool(tree.proven[pair])
    i, j = pair
    return go.Scatter(
        x=points[[i, j], 0], y=points[[i, j], 1], mode="lines", showlegend=False, hoverinfo="skip",
        line={"color": PROVEN if proven else STRAIGHT, "width": 2, "dash": "solid" if proven else "dash"},
    )  # fmt: skip


# The tree stands below the page and says only that it can be drawn; here is how.
