"""Ways to look at one figure that its reader may switch between: they change the layout, never the data.

A figure keeps them in `layout.meta["scales"]`, in order, the first being how it is drawn: `{"name": ..., "layout": {...}}`, where the
layout's entries take the place of the figure's own. A page makes a menu of them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dss.page.figures.style import log_ticks, number

# A hill this many times as high as what matters would squeeze it into a corner of the figure...
HILL = 4.0
# ...so at first only this many times its height is shown.
SHOWN = 2.0

Hill = tuple[str, Sequence[float], Sequence[float]]
"""What may be cut: its name, and its places and values `(s,)`."""


def loss_scales(hill: Hill | None, values: Sequence[float], level: float | None, *, log: bool = False) -> list[dict]:
    """Scales of an axis of losses: cut above what matters where a hill dwarfs it, whole, and logarithmic where all is positive.

    Args:
        hill: the straight line, as a rule; None if nothing may be cut.
        values: losses that must be seen whole.
        level: the threshold, or None; it is seen, too.
        log: start with the logarithm where there is one.
    """
    seen = np.array([v for v in (*values, *(() if level is None else (level,))) if np.isfinite(v)])
    every = np.concatenate([seen, _finite(hill)])
    scales = [{"name": "all of it", "layout": {"yaxis": {"type": "linear"}, "annotations": []}}]
    if len(seen) and hill is not None and (cut := _cut(hill, seen)):
        scales.insert(0, cut)
    if len(every) and every.min() > 0:
        logarithmic = {"name": "logarithmic", "layout": {"yaxis": {"type": "log", **log_ticks(every)}, "annotations": []}}
        scales.insert(0 if log else len(scales), logarithmic)
    return scales


def with_scales(layout: dict, scales: list[dict]) -> dict:
    """A layout drawn at the first of its scales, which keeps them all."""
    return merged(layout, scales[0]["layout"]) | {"meta": {"scales": scales}}


def merged(layout: dict, changes: dict) -> dict:
    """A layout with entries changed, however deep."""
    return layout | {
        key: merged(layout.get(key, {}), value) if isinstance(value, dict) else value for key, value in changes.items()
    }


def _finite(hill: Hill | None) -> np.ndarray:
    values = np.asarray([] if hill is None else hill[2], dtype=float)
    return values[np.isfinite(values)]


def _cut(hill: Hill, seen: np.ndarray) -> dict[str, Any] | None:
    """The lowest part of the axis, with the height of what it hides written at its place; None if nothing dwarfs the rest."""
    name, places, values = hill
    finite = _finite(hill)
    low = min(seen.min(), finite.min(initial=np.inf))
    span = seen.max() - low
    if not len(finite) or not finite.max() - low > HILL * span or span <= 0:
        return None
    top = low + SHOWN * span
    highest = int(np.nanargmax(np.where(np.isfinite(values), values, -np.inf)))
    note = {
        "x": float(places[highest]), "y": 0.995, "yref": "paper", "yanchor": "top", "showarrow": False,
        "text": f"↑ {name}: up to {number(float(finite.max()), 3)}", "font": {"size": 12}, "bgcolor": "rgba(128,128,128,0.18)",
    }  # fmt: skip
    shown = {"type": "linear", "range": [low - 0.04 * (top - low), top], "autorange": False}
    return {"name": "the lower part", "layout": {"yaxis": shown, "annotations": [note]}}
