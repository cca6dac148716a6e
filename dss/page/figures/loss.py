"""Loss along the path."""

import numpy as np
import plotly.graph_objects as go

from dss.page.figures.scales import loss_scales, with_scales
from dss.page.figures.style import ABOVE, PATH, PROVEN, STRAIGHT, THRESHOLD, axis, layout, number
from dss.page.profile import Metric, PathProfile


def loss_along_path(profile: PathProfile, *, metric: int | str = 0, log: bool = False) -> go.Figure:
    """A metric by arc length: the path with its beads, the straight line behind it, the threshold, the proven bounds.

    Where the straight line's hill would squeeze path and threshold into a corner, the axis ends at twice what matters, and the
    height of the hill is written there; see `dss.page.figures.scales`.

    Args:
        profile: see `dss.page.profile.measure_path`.
        metric: which of its metrics, by place or name; threshold and bounds belong to the first alone.
        log: a logarithmic axis, where every value is positive.
    """
    names = [entry.name for entry in profile.metrics]
    index = names.index(metric) if isinstance(metric, str) else metric
    shown = profile.metrics[index]
    traces = [_straight(profile, shown)]
    if index == 0:
        traces += [*_stairs(profile), _threshold(profile)]
    traces += [_path(profile, shown), _beads(profile, shown, profile.threshold if index == 0 else float("inf"))]
    look = layout(
        xaxis=axis("distance along the path", range=[-0.015, 1.015], showgrid=False, tickformat=".0%"),
        yaxis=axis(shown.name),
        hovermode="closest",
    )
    return go.Figure(traces, with_scales(look, _scales(profile, index, log)))


def _scales(profile: PathProfile, index: int, log: bool) -> list[dict]:
    """Path, bounds and threshold are seen whole; the straight line may be cut."""
    metric, bounds = profile.metrics[index], profile.bounds
    proven = [] if index or bounds is None else bounds[:, 2].tolist()
    line = ("straight line", profile.straight_arc.tolist(), metric.straight.tolist())
    return loss_scales(line, [*metric.path.tolist(), *proven], None if index else profile.threshold, log=log)


def _path(profile: PathProfile, metric: Metric) -> go.Scatter:
    return go.Scatter(
        x=_array(profile.arc), y=_array(metric.path), mode="lines", name="path", line={"color": PATH, "width": 2.5},
        hovertemplate="%{y:.5g} at %{x:.1%}<extra>path</extra>",
    )  # fmt: skip


def _straight(profile: PathProfile, metric: Metric) -> go.Scatter:
    return go.Scatter(
        x=_array(profile.straight_arc), y=_array(metric.straight), mode="lines", name="straight line",
        line={"color": STRAIGHT, "width": 2, "dash": "dash"},
        hovertemplate="%{y:.5g} at %{x:.1%}<extra>straight line</extra>",
    )  # fmt: skip


def _beads(profile: PathProfile, metric: Metric, threshold: float) -> go.Scatter:
    values = metric.path[profile.beads]
    return go.Scatter(
        x=_array(profile.arc[profile.beads]), y=_array(values), mode="markers", name="beads",
        marker={
            "color": [ABOVE if value > threshold else PATH for value in values.tolist()],
            "size": 9 if len(values) <= 40 else 6,
            "line": {"color": "white", "width": 1},
        },
        customdata=np.arange(len(values)),
        hovertemplate="bead %{customdata}: %{y:.5g}<extra></extra>",
    )  # fmt: skip


def _threshold(profile: PathProfile) -> go.Scatter:
    return go.Scatter(
        x=[-0.015, 1.015], y=[profile.threshold] * 2, mode="lines", name=f"threshold {number(profile.threshold)}",
        line={"color": THRESHOLD, "width": 2.5, "dash": "dot"}, hovertemplate="threshold %{y:.5g}<extra></extra>",
    )  # fmt: skip


def _stairs(profile: PathProfile) -> list[go.Scatter]:
    """The proven bound, a level per cell."""
    if profile.bounds is None:
        return []
    lower, upper, bound = profile.bounds.T.numpy()
    bounds = go.Scatter(
        x=np.stack([lower, upper], 1).ravel(), y=np.repeat(bound, 2), mode="lines", name="proven bound",
        line={"color": PROVEN, "width": 1.8}, hovertemplate="proved to be at most %{y:.5g}<extra></extra>",
    )  # fmt: skip
    return [bounds]


def _array(values) -> np.ndarray:
    return np.asarray(values, dtype=float)
