"""The loss on the sheet between straight line and path."""

import numpy as np
import plotly.graph_objects as go

from dss.page.figures.plane import boundary, crosses, ground
from dss.page.figures.style import LossColours, axis, layout
from dss.page.loss_sheet import LossSheet


def loss_on_sheet(sheet: LossSheet) -> go.Figure:
    """Filled contours of the loss, the boundary of the level set, and the path as the row that it is.

    Args:
        sheet: see `dss.page.loss_sheet.unroll`.
    """
    colours = LossColours.of(sheet.losses.flatten(), sheet.threshold)
    x, y = sheet.along.numpy(), sheet.across.numpy()
    traces: list = [ground(x, y, sheet.losses, colours)]
    if crosses(sheet.losses, sheet.threshold):
        traces.append(boundary(x, y, sheet.losses, colours, sheet.threshold))
    ticks = {"tickvals": [0, 1], "ticktext": ["line", "path"], "range": [float(y[0]), float(y[-1])]}
    look = layout(
        coloraxis=colours.axis(y=-0.2, len=1.0),
        xaxis=axis("share of the length", showgrid=False, tickformat=".0%", range=[0, 1]),
        yaxis=axis("", showgrid=False, **ticks),
        margin={"l": 58, "r": 16, "t": 30, "b": 110},
    )
    return go.Figure([*traces, *_path(sheet), _line(), _ends()], look)


def _path(sheet: LossSheet) -> list[go.Scatter]:
    """The path with a dark rim, so that it is seen on every colour."""
    ones, beads = np.ones(2), sheet.beads.numpy()
    rim = {"color": "#111111", "width": 5.5}
    marker = {"color": "#FFFFFF", "size": 8, "line": {"color": "#111111", "width": 1.5}}
    return [
        go.Scatter(x=[0, 1], y=ones, mode="lines", line=rim, hoverinfo="skip", showlegend=False),
        go.Scatter(x=[0, 1], y=ones, mode="lines", line={"color": "#FFFFFF", "width": 3}, hoverinfo="skip", showlegend=False),
        go.Scatter(
            x=beads, y=np.ones(len(beads)), mode="markers", marker=marker, customdata=np.arange(len(beads)),
            hovertemplate="bead %{customdata}<extra></extra>", name="path with its beads",
        ),
    ]  # fmt: skip


def _line() -> go.Scatter:
    line = {"color": "#FFFFFF", "width": 2, "dash": "dash"}
    return go.Scatter(x=[0, 1], y=[0, 0], mode="lines", line=line, hoverinfo="skip", showlegend=False)


def _ends() -> go.Scatter:
    """The left side is A and the right side is B, from top to bottom."""
    return go.Scatter(
        x=[0.012, 0.988], y=[0.5, 0.5], mode="text", text=["<b>A</b>", "<b>B</b>"], hoverinfo="skip", showlegend=False,
        textposition=["middle right", "middle left"], name="ends",
        textfont={"size": 15, "color": "#FFFFFF", "shadow": "1px 1px 2px #000, -1px -1px 2px #000"},
    )  # fmt: skip
