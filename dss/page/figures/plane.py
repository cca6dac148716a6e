"""The loss on a plane, the level set's boundary, and a path over it."""

import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor

from dss.page.figures.style import THRESHOLD, LossColours, axis, layout, number
from dss.page.loss_plane import LossPlane

CONTOURS = 18


def loss_on_plane(plane: LossPlane) -> go.Figure:
    """Filled contours of the loss, the boundary of the level set at the threshold, and the path as the plane sees it.

    Args:
        plane: see `dss.page.loss_plane.survey`.
    """
    lowest = plane.losses[plane.losses.isfinite()].min().item()
    colours = LossColours.of(plane.losses.flatten(), lowest if plane.threshold is None else plane.threshold)
    x, y = _array(plane.x), _array(plane.y)
    traces = [ground(x, y, plane.losses, colours)]
    if plane.threshold is not None and crosses(plane.losses, plane.threshold):
        traces.append(boundary(x, y, plane.losses, colours, plane.threshold))
    equal = {"scaleanchor": "x", "scaleratio": 1, "constrain": "domain"}
    look = layout(
        coloraxis=colours.axis(y=-0.2, len=1.0),
        xaxis=axis("along A → B, in units of their distance", showgrid=False, constrain="domain"),
        yaxis=axis("across", showgrid=False, **equal),
        margin={"l": 58, "r": 16, "t": 30, "b": 110},
    )
    return go.Figure([*traces, *_path(plane), _marks(plane)], look)


def crosses(losses: Tensor, level: float) -> bool:
    """Whether the boundary of the level set runs through losses `(r, c)`."""
    return bool((losses <= level).any() and (losses > level).any())


def ground(x: np.ndarray, y: np.ndarray, losses: Tensor, colours: LossColours) -> go.Contour:
    """Filled contours of losses `(r, c)` at x `(c,)` and y `(r,)`."""
    low, high = colours.limits()
    return go.Contour(
        x=x, y=y, z=colours.values(losses), coloraxis="coloraxis",
        contours={"start": low, "end": high, "size": (high - low) / CONTOURS}, line={"width": 0.4, "color": "rgba(255,255,255,0.35)"},
        text=[[number(loss) for loss in row] for row in losses.tolist()],
        hovertemplate="loss %{text}<extra></extra>", name="loss", showlegend=False,
    )  # fmt: skip


def boundary(x: np.ndarray, y: np.ndarray, losses: Tensor, colours: LossColours, level: float) -> go.Contour:
    """One contour line, at the threshold."""
    height = float(colours.values(torch.tensor([level], dtype=torch.float64))[0])
    return go.Contour(
        x=x, y=y, z=colours.values(losses), showscale=False, hoverinfo="skip",
        contours={"start": height, "end": height, "size": 1, "coloring": "none"}, line={"width": 3, "color": THRESHOLD},
        name=f"level set, L₀ = {number(level)}", showlegend=True,
    )  # fmt: skip


def _path(plane: LossPlane) -> list[go.Scatter]:
    """The path with a dark rim, so that it is seen on every colour."""
    if plane.seen is None:
        return []
    seen = plane.seen
    x, y = _array(seen.points[:, 0]), _array(seen.points[:, 1])
    off = [number(distance, 3) for distance in seen.distances.tolist()]
    rim = go.Scatter(x=x, y=y, mode="lines", line={"color": "#111111", "width": 5.5}, hoverinfo="skip", showlegend=False)
    line = go.Scatter(
        x=x, y=y, mode="lines", line={"color": "#FFFFFF", "width": 3}, text=off, name="path", showlegend=False,
        hovertemplate="path, %{text} off the plane<extra></extra>",
    )  # fmt: skip
    beads = seen.beads.numpy()
    marker = {"color": "#FFFFFF", "size": 8, "line": {"color": "#111111", "width": 1.5}}
    dots = go.Scatter(
        x=x[beads], y=y[beads], mode="markers", marker=marker, text=[off[i] for i in beads], customdata=np.arange(len(beads)),
        hovertemplate="bead %{customdata}, %{text} off the plane<extra></extra>", name="path with its beads",
    )  # fmt: skip
    return [rim, line, dots]


def _marks(plane: LossPlane) -> go.Scatter:
    names, x, y = zip(*plane.marks, strict=True)
    return go.Scatter(
        x=x, y=y, mode="markers+text", text=[f"<b>{name}</b>" for name in names], textposition="top center",
        textfont={"size": 15, "color": "#FFFFFF", "shadow": "1px 1px 2px #000, -1px -1px 2px #000"},
        marker={"symbol": "diamond", "size": 10, "color": "#FFFFFF", "line": {"color": "#111111", "width": 1.5}},
        hoverinfo="text", showlegend=False, name="corners",
    )  # fmt: skip


def _array(values: Tensor) -> np.ndarray:
    return values.double().numpy()
