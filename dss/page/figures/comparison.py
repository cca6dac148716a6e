"""Several paths between the same ends, over one another."""

from collections.abc import Mapping

import plotly.graph_objects as go
import torch

from dss.page.figures.scales import loss_scales, with_scales
from dss.page.figures.string import box_of, scene_of, space_of, wall_of
from dss.page.figures.style import SERIES, SHADOW, STRAIGHT, THRESHOLD, axis, layout, number
from dss.page.profile import PathProfile, StringPicture

# Colour is not the only thing that tells lines apart.
DASHES = ("solid", "dash", "dashdot", "longdash", "dot")


def losses_compared(profiles: Mapping[str, PathProfile], *, log: bool = False) -> go.Figure:
    """The judge's loss along several paths, the straight line behind them, and the threshold; see `loss_along_path`.

    Args:
        profiles: by finder.
        log: a logarithmic axis, where every value is positive.
    """
    first = next(iter(profiles.values()))
    traces = [
        *_straight(profiles),
        _line(
            f"threshold {number(first.threshold)}", torch.tensor([-0.015, 1.015]), torch.full((2,), first.threshold),
            {"color": THRESHOLD, "width": 2.5, "dash": "dot"},
        ),
        *(_line(name, p.arc, p.metrics[0].path, _style(i)) for i, (name, p) in enumerate(profiles.items())),
    ]  # fmt: skip
    look = layout(
        xaxis=axis("distance along each path", range=[-0.015, 1.015], showgrid=False, tickformat=".0%"),
        yaxis=axis(first.metrics[0].name),
    )
    line = ("straight line", first.straight_arc.tolist(), first.metrics[0].straight.tolist())
    losses = [value for profile in profiles.values() if len(profile.beads) > 2 for value in profile.metrics[0].path.tolist()]
    return go.Figure(traces).update_layout(with_scales(look, loss_scales(line, losses, first.threshold, log=log)))


def strings_compared(picture: StringPicture) -> go.Figure:
    """Several strings on common principal axes, one colour each, with shadows.

    Args:
        picture: see `dss.page.profile.picture_strings`; its strings are different paths.
    """
    box = box_of(torch.cat([string.points for string in picture.strings]))
    traces = []
    for i, string in enumerate(picture.strings):
        points = string.points[string.beads].numpy()
        for wall in range(3):
            shadow = points.copy()
            shadow[:, wall] = wall_of(box, wall)
            traces.append(
                _space(
                    shadow, mode="lines", line={"color": SHADOW, "width": 2}, name="shadow", hoverinfo="skip", showlegend=False
                )
            )
        traces.append(
            _space(
                points, mode="lines+markers", line=_style(i) | {"width": 6, "dash": "solid"}, marker={"size": 4}, name=string.name
            )
        )
    ends = picture.strings[0].points[[0, -1]].numpy()
    traces.append(_space(ends, mode="text", text=["A", "B"], textfont={"size": 16}, showlegend=False, hoverinfo="skip"))
    look = layout(scene=space_of(box), margin={"l": 0, "r": 0, "t": 30, "b": 0})
    return go.Figure(traces).update_layout(with_scales(look, scene_of(box, picture.explained.tolist())))


def _straight(profiles: Mapping[str, PathProfile]) -> list[go.Scatter]:
    """The straight line, unless it is one of the paths."""
    if any(len(profile.beads) == 2 for profile in profiles.values()):
        return []
    first = next(iter(profiles.values()))
    line = {"color": STRAIGHT, "width": 2, "dash": "dash"}
    return [_line("straight line", first.straight_arc, first.metrics[0].straight, line)]


def _line(name: str, x, y, line: dict) -> go.Scatter:
    x, y = x.double().numpy(), y.double().numpy()
    return go.Scatter(x=x, y=y, mode="lines", name=name, line=line, hovertemplate="%{y:.5g}<extra>" + name + "</extra>")


def _space(points, **options: object) -> go.Scatter3d:
    return go.Scatter3d(x=points[:, 0], y=points[:, 1], z=points[:, 2], **options)


def _style(i: int) -> dict:
    return {"color": SERIES[i % len(SERIES)], "width": 2.5, "dash": DASHES[i % len(DASHES)]}
