"""Averages of models: the loss along the line between two, the rises of all pairs, models beside their soups."""

from typing import Literal

import plotly.graph_objects as go
import torch
from torch import Tensor

from dss.averaging import Check, LossLine
from dss.page.figures.scales import loss_scales, with_scales
from dss.page.figures.style import ABOVE, PATH, PROVEN, SERIES, STRAIGHT, THRESHOLD, LossColours, axis, layout, number
from dss.page.figures.tables import written

ALIGNED = SERIES[3]


def loss_between(check: Check, metric: str | None = None) -> go.Figure:
    """The loss along the line between two models, what is allowed there, and the average.

    Args:
        metric: another loss by its name; what is allowed and proved belongs to the judged loss alone.
    """
    line = check.lines[0, 1]
    values = _values(line, metric)
    ends = torch.lerp(values[0], values[-1], line.t)
    shown = values.tolist()
    traces = [_curve(line.t, ends, "ends, interpolated", STRAIGHT, dash="dash")]
    if metric is None:
        traces += [_curve(line.t, check.tolerance.above(ends), f"safe up to here ({check.tolerance})", THRESHOLD, dash="dot")]
        traces += _bound(line)
    if check.aligned is not None:
        other = check.aligned.lines[0, 1]
        shown += _values(other, metric).tolist()
        traces.append(_curve(other.t, _values(other, metric), f"units reordered by {check.aligned.align}", ALIGNED))
    middle = values[line.t == 0.5]
    traces += [_curve(line.t, values, "straight line", PATH, mode="lines+markers"), _average(middle)]
    ticks = {"tickvals": [0, 0.25, 0.5, 0.75, 1], "ticktext": [check.names[0], "¼", "average", "¾", check.names[1]]}
    look = layout(
        xaxis=axis("weight of the second model", showgrid=False, range=[-0.02, 1.02], **ticks),
        yaxis=axis("loss" if metric is None else metric),
        hovermode="closest",
    )
    return go.Figure(traces).update_layout(with_scales(look, loss_scales(None, shown, None)))


def rise_matrix(check: Check, what: Literal["rise", "barrier"] = "rise") -> go.Figure:
    """A figure of every pair's line as a heat map: `rise` or `barrier`."""
    values = check.matrix(what)
    # Rises start at 0, also where there are none; barriers are losses.
    top = values.max().item()
    colours = (
        LossColours(False, 0.0, top or 1.0, float("nan")) if what == "rise" else LossColours.of(values.flatten(), float("nan"))
    )
    places = list(range(len(check)))
    text = [[_cell_words(check, i, j) for j in places] for i in places]
    heat = go.Heatmap(
        x=places, y=places, z=colours.values(values), coloraxis="coloraxis", text=text, hovertemplate="%{text}<extra></extra>",
        xgap=1, ygap=1,
    )  # fmt: skip
    ticks = {
        "tickvals": places,
        "ticktext": list(check.names),
        "showgrid": False,
        "constrain": "domain",
        "ticks": "",
        "showline": False,
    }
    figure = go.Figure([heat])
    figure.update_layout(
        layout(
            xaxis=axis("", range=[-0.5, len(check) - 0.5], **ticks),
            yaxis=axis("", range=[len(check) - 0.5, -0.5], scaleanchor="x", scaleratio=1, **ticks),
            coloraxis=colours.axis(y=-0.16, len=1.0),
            margin={"l": 62, "r": 16, "t": 20, "b": 120},
        )
    )
    return figure


def losses_of_soups(check: Check) -> go.Figure:
    """The models in the order of their losses, those of the greedy soup filled, and both soups as lines."""
    order = check.losses.argsort(stable=True).tolist()
    losses, members = check.losses.tolist(), set(check.greedy.members)
    names = [check.names[i] for i in order]
    dots = go.Scatter(
        x=names, y=[losses[i] for i in order], mode="markers", name="models (filled: in it)",
        marker={"size": 10, "color": PATH, "symbol": ["circle" if i in members else "circle-open" for i in order]},
        hovertemplate="%{x}: %{y:.5g}<extra></extra>",
    )  # fmt: skip
    soups = [("uniform soup", check.uniform, ABOVE, "dash"), ("greedy soup", check.greedy, PROVEN, "solid")]
    lines = [
        go.Scatter(
            x=names, y=[soup.loss] * len(names), mode="lines", name=name,
            line={"color": colour, "width": 2.5, "dash": dash}, hovertemplate=f"{name}: %{{y:.5g}}<extra></extra>",
        )
        for name, soup, colour, dash in soups
    ]  # fmt: skip
    look = layout(xaxis=axis("", showgrid=False), yaxis=axis("loss"), hovermode="closest")
    scales = loss_scales(None, [*losses, check.uniform.loss, check.greedy.loss], None)
    return go.Figure([*lines, dots]).update_layout(with_scales(look, scales))


def line_table(check: Check) -> str:
    """CSV of the line between two models, and of that of their reordered copies."""
    names = list(check.metrics)
    rows = [
        (kind, *row)
        for kind, found in (("straight", check), ("reordered", check.aligned))
        if found is not None
        for row in _rows(found.lines[0, 1], names)
    ]
    return written(("line", "t", "loss", "ends interpolated", *names), rows)


def pairs_table(check: Check) -> str:
    """CSV of all pairs."""
    rows = [
        (check.names[i], check.names[j], line.rise, line.place, line.barrier, line.excess) for (i, j), line in check.lines.items()
    ]
    return written(("one", "other", "rise", "at", "barrier", "excess"), rows)


def _rows(line: LossLine, names: list[str]) -> list[list[float]]:
    columns = [line.t, line.losses, line.interpolated, *(line.metrics[name] for name in names)]
    return torch.stack(columns, 1).tolist()


def _values(line: LossLine, metric: str | None) -> Tensor:
    return line.losses if metric is None else line.metrics[metric]


def _curve(t: Tensor, values: Tensor, name: str, colour: str, *, mode: str = "lines", dash: str = "solid") -> go.Scatter:
    return go.Scatter(
        x=t.tolist(), y=values.tolist(), mode=mode, name=name, line={"color": colour, "width": 2.5, "dash": dash},
        marker={"size": 5}, hovertemplate="%{y:.5g} at %{x:.3g}<extra>" + name + "</extra>",
    )  # fmt: skip


def _average(value: Tensor) -> go.Scatter:
    return go.Scatter(
        x=[0.5], y=value.tolist(), mode="markers", name="average", marker={"size": 12, "color": ABOVE, "symbol": "diamond"},
        hovertemplate="average: %{y:.5g}<extra></extra>",
    )  # fmt: skip


def _bound(line: LossLine) -> list[go.Scatter]:
    """The level above which the loss is proved nowhere to be."""
    if line.bracket is None:
        return []
    return [_curve(line.t[[0, -1]], torch.full((2,), line.bracket.upper), "proved: nowhere above", PROVEN)]


def _cell_words(check: Check, i: int, j: int) -> str:
    if i == j:
        return f"{check.names[i]}: loss {number(check.losses[i].item())}"
    line = check.lines[min(i, j), max(i, j)]
    return (
        f"{check.names[i]} and {check.names[j]}<br>{number(line.rise)} above the ends interpolated<br>barrier {number(line.barrier)}, "
        f"{number(line.excess)} above the higher end"
    )
