"""The loss on a plane, the level set's boundary, and a path over it."""

import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor

from dss.page.figures.style import THRESHOLD, LossColours, axis, layout, number
from dss.page.loss_plane import Terrain

CONTOURS = 18


def terrain_on_plane(terrain: Terrain) -> go.Figure:
    """Filled contours of the loss, the boundary of the level set at the threshold, and the path as the plane sees it.

    Args:
        terrain: see `dss.page.loss_plane.survey`.
    """
    lowest = terrain.losses[terrain.losses.isfinite()].min().item()
    colours = LossColours.of(terrain.losses.flatten(), lowest if terrain.threshold is None else terrain.threshold)
    traces = [_ground(terrain, colours)]
    if terrain.threshold is not None and _crosses(terrain):
        traces.append(_boundary(terrain, colours))
    figure = go.Figure([*traces, *_trail(terrain), _marks(terrain)])
    bar = colours.axis(y=-0.2, len=1.0)
    equal = {"scaleanchor": "x", "scaleratio": 1, "constrain": "domain"}
    figure.update_layout(
        layout(
            coloraxis=bar,
            xaxis=axis("along A → B, in units of their distance", showgrid=False, constrain="domain"),
            yaxis=axis("across", showgrid=False, **equal),
            margin={"l": 58, "r": 16, "t": 30, "b": 110},
        )
    )
    return figure


def _crosses(terrain: Terrain) -> bool:
    """Whether the boundary of the level set runs through what is shown."""
    return bool((terrain.losses <= terrain.threshold).any() and (terrain.losses > terrain.threshold).any())


def _ground(terrain: Terrain, colours: LossColours) -> go.Contour:
    low, high = colours.limits()
    return go.Contour(
        x=_array(terrain.x), y=_array(terrain.y), z=colours.values(terrain.losses), coloraxis="coloraxis",
        contours={"start": low, "end": high, "size": (high - low) / CONTOURS}, line={"width": 0.4, "color": "rgba(255,255,255,0.35)"},
        text=[[number(loss) for loss in row] for row in terrain.losses.tolist()],
        hovertemplate="loss %{text}<extra></extra>", name="loss", showlegend=False,
    )  # fmt: skip


def _boundary(terrain: Terrain, colours: LossColours) -> go.Contour:
    """One contour line, at the threshold."""
    level = float(colours.values(torch.tensor([terrain.threshold], dtype=torch.float64))[0])
    return go.Contour(
        x=_array(terrain.x), y=_array(terrain.y), z=colours.values(terrain.losses), showscale=False, hoverinfo="skip",
        contours={"start": level, "end": level, "size": 1, "coloring": "none"}, line={"width": 3, "color": THRESHOLD},
        name=f"level set, L₀ = {number(terrain.threshold)}", showlegend=True,
    )  # fmt: skip


def _trail(terrain: Terrain) -> list[go.Scatter]:
    """The path with a dark rim, so that it is seen on every colour."""
    if terrain.trail is None:
        return []
    trail = terrain.trail
    x, y = _array(trail.points[:, 0]), _array(trail.points[:, 1])
    off = [number(distance, 3) for distance in trail.distances.tolist()]
    rim = go.Scatter(x=x, y=y, mode="lines", line={"color": "#111111", "width": 5.5}, hoverinfo="skip", showlegend=False)
    line = go.Scatter(
        x=x, y=y, mode="lines", line={"color": "#FFFFFF", "width": 3}, text=off, name="path", showlegend=False,
        hovertemplate="path, %{text} off the plane<extra></extra>",
    )  # fmt: skip
    beads = trail.beads.numpy()
    marker = {"color": "#FFFFFF", "size": 8, "line": {"color": "#111111", "width": 1.5}}
    dots = go.Scatter(
        x=x[beads], y=y[beads], mode="markers", marker=marker, text=[off[i] for i in beads], customdata=np.arange(len(beads)),
        hovertemplate="bead %{customdata}, %{text} off the plane<extra></extra>", name="path with its beads",
    )  # fmt: skip
    return [rim, line, dots]


def _marks(terrain: Terrain) -> go.Scatter:
    names, x, y = zip(*terrain.marks, strict=True)
    return go.Scatter(
        x=x, y=y, mode="markers+text", text=[f"<b>{name}</b>" for name in names], textposition="top center",
        textfont={"size": 15, "color": "#FFFFFF", "shadow": "1px 1px 2px #000, -1px -1px 2px #000"},
        marker={"symbol": "diamond", "size": 10, "color": "#FFFFFF", "line": {"color": "#111111", "width": 1.5}},
        hoverinfo="text", showlegend=False, name="corners",
    )  # fmt: skip


def _array(values: Tensor) -> np.ndarray:
    return values.double().numpy()
