"""Strings in space: principal axes, coloured by loss, with shadows on the walls."""

import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor

from dss.page.figures.scales import with_scales
from dss.page.figures.style import ABOVE, SHADOW, LossColours, layout, number
from dss.page.profile import ProjectedPath, StringPicture

# The longest side of a scene of equal scale, in plotly's units: it is flat, as a rule, so it may be longer than a cube's.
EQUAL = 2.2


def string_in_space(picture: StringPicture, *, shown: int = -1, controls: bool = True) -> go.Figure:
    """A string along its three principal axes, with a slider over its history when there is more than one string.

    Args:
        picture: see `dss.page.profile.picture_strings`; its strings are states of one string, in order.
        shown: which string is drawn first.
        controls: plotly's own slider and play button; a page with its own leaves them out.
    """
    strings = picture.strings
    colours = LossColours.of(torch.cat([string.losses for string in strings]), picture.threshold)
    box = box_of(torch.cat([string.points for string in strings]))
    look = layout(scene=space_of(box), coloraxis=colours.axis(), margin={"l": 0, "r": 0, "t": 8, "b": 70}, showlegend=False)
    figure = go.Figure(_traces(strings[shown], box, colours), with_scales(look, scene_of(box, picture.explained.tolist())))
    if len(strings) > 1:
        figure.frames = [go.Frame(data=_traces(string, box, colours), name=str(i)) for i, string in enumerate(strings)]
    if controls and len(strings) > 1:
        figure.update_layout(_controls(strings, shown % len(strings)))
    return figure


def box_of(points: Tensor) -> np.ndarray:
    """Lower and upper corner `(2, 3)` with air around the strings; the low sides are walls for shadows."""
    low, high = points.min(0).values, points.max(0).values
    air = torch.maximum(0.12 * (high - low), 0.08 * (high - low).max())
    return torch.stack([low - air, high + air]).numpy()


def _traces(string: ProjectedPath, box: np.ndarray, colours: LossColours) -> list[go.Scatter3d]:
    points = string.points.numpy()
    return [
        *(_shadow(points, wall, wall_of(box, wall)) for wall in range(3)),
        _line(string, points, colours),
        _beads(string, points, colours),
        _ends(points),
    ]


def wall_of(box: np.ndarray, axis: int) -> float:
    """Where shadows fall: a little in front of the wall, or they and its grid would hide parts of each other."""
    return float(box[0, axis] + 0.006 * (box[1, axis] - box[0, axis]))


def _shadow(points: np.ndarray, wall: int, height: float) -> go.Scatter3d:
    """The string dropped onto the wall across one axis."""
    points = points.copy()
    points[:, wall] = height
    # Opaque: transparent lines in WebGL vanish on white and glow on black.
    line = {"color": SHADOW, "width": 3}
    return go.Scatter3d(**_xyz(points), mode="lines", line=line, hoverinfo="skip", name="shadow")


def _line(string: ProjectedPath, points: np.ndarray, colours: LossColours) -> go.Scatter3d:
    line = {"color": colours.values(string.losses), "coloraxis": "coloraxis", "width": 9}
    texts = [f"loss {number(loss)}" for loss in string.losses.tolist()]
    return go.Scatter3d(**_xyz(points), mode="lines", line=line, text=texts, hoverinfo="text", name="string")


def _beads(string: ProjectedPath, points: np.ndarray, colours: LossColours) -> go.Scatter3d:
    """Beads in the colour of their loss; a red rim where it exceeds the threshold."""
    losses = string.losses[string.beads]
    rims = [ABOVE if loss > colours.threshold else "rgba(128,128,128,0.9)" for loss in losses.tolist()]
    marker = {"color": colours.values(losses), "coloraxis": "coloraxis", "size": 5.5, "line": {"color": rims, "width": 1}}
    texts = [f"bead {i}: loss {number(loss)}" for i, loss in enumerate(losses.tolist())]
    beads = points[string.beads.numpy()]
    return go.Scatter3d(**_xyz(beads), mode="markers", marker=marker, text=texts, hoverinfo="text", name="beads")


def _ends(points: np.ndarray) -> go.Scatter3d:
    return go.Scatter3d(
        **_xyz(points[[0, -1]]), mode="text", text=["A", "B"], textposition="top center",
        textfont={"size": 16}, hoverinfo="skip", name="ends",
    )  # fmt: skip


def scene_of(box: np.ndarray, explained: list[float]) -> list[dict]:
    """Two scales of a scene: the same for all axes, and stretched to a cube; see `dss.page.figures.scales`."""
    sides = box[1] - box[0]
    titles = [f"axis {i + 1} · {_percent(share)}" for i, share in enumerate(explained)]
    shares = sides / sides.max()
    equal = dict(zip("xyz", (EQUAL * shares).tolist(), strict=True))
    stretched = [title if share > 0.95 else f"{title}, stretched ×{number(1 / share, 2)}"
                 for title, share in zip(titles, shares.tolist(), strict=True)]  # fmt: skip
    # Numbers on a short side would lie over one another.
    named = [_axes(titles, shares > 0.3), _axes(stretched, shares > 0)]
    return [
        {"name": "equal scale", "layout": {"scene": named[0] | {"aspectmode": "manual", "aspectratio": equal}}},
        {"name": "axes stretched", "layout": {"scene": named[1] | {"aspectmode": "cube", "aspectratio": None}}},
    ]


def _axes(titles: list[str], numbered: np.ndarray) -> dict:
    axes = zip("xyz", titles, numbered.tolist(), strict=True)
    return {f"{letter}axis": {"title": {"text": title}, "showticklabels": shown} for letter, title, shown in axes}


def space_of(box: np.ndarray) -> dict:
    """Axes and camera of a scene whose scale `scene_of` gives."""
    axes = {
        f"{letter}axis": {
            "range": box[:, i].tolist(),
            "gridcolor": SHADOW,
            "zeroline": False,
            "showbackground": False,
            "showspikes": False,
            "nticks": 4,
            "tickfont": {"size": 10},
        }
        for i, letter in enumerate("xyz")
    }
    camera = {"eye": {"x": 1.3, "y": 1.3, "z": 0.8}, "center": {"x": 0, "y": 0, "z": -0.14}}
    return axes | {"camera": camera}


def _percent(share: float) -> str:
    """A share without false precision: 93 %, 4.2 %, < 0.1 %."""
    if 0 < share < 1e-3:
        return "< 0.1 %"
    return f"{100 * share:.0f} %" if share >= 0.1 or share == 0 else f"{100 * share:.1f} %"


def _controls(strings: tuple[ProjectedPath, ...], active: int) -> dict:
    """Plotly's slider and play button, for notebooks."""
    instantly = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    steps = [{"label": string.name, "method": "animate", "args": [[str(i)], instantly]} for i, string in enumerate(strings)]
    playing = {"fromcurrent": True, "frame": {"duration": 400, "redraw": True}, "transition": {"duration": 0}}
    play = {"label": "play", "method": "animate", "args": [None, playing]}
    pause = {"label": "pause", "method": "animate", "args": [[None], instantly]}
    return {
        "sliders": [{"active": active, "steps": steps, "currentvalue": {"prefix": ""}, "y": -0.18}],
        "updatemenus": [{"type": "buttons", "buttons": [play, pause], "direction": "left", "x": 0, "y": 1.08}],
        "margin": {"l": 0, "r": 0, "t": 40, "b": 160},
    }


def _xyz(points: np.ndarray) -> dict[str, np.ndarray]:
    return {"x": points[:, 0], "y": points[:, 1], "z": points[:, 2]}
