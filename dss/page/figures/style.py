"""The look all figures share: colours that colour-blind readers can tell apart, scales, ticks, one layout."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

import numpy as np
from torch import Tensor

# Okabe & Ito's palette ("Color universal design", 2008), and greys that are seen on white and on black.
PATH, STRAIGHT, THRESHOLD, PROVEN, ABOVE = "#0072B2", "#8A8A8A", "#D55E00", "#009E73", "#CC3311"
SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#7A5195", "#777777")
GRID = "rgba(128,128,128,0.22)"
SHADOW = "#B4BAC0"
MAP = "Cividis"


def layout(**more: object) -> dict:
    """Plotly layout without background, so that the page's light or dark shows through."""
    base = {
        "template": "none",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": "#222222"},
        "margin": {"l": 62, "r": 16, "t": 16, "b": 52},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.01, "xanchor": "left", "x": 0},
        "hoverlabel": {"font": {"size": 12}},
    }
    return base | more


def axis(title: str, **more: object) -> dict:
    """A plain axis."""
    base = {"title": {"text": title, "standoff": 8}, "gridcolor": GRID, "zeroline": False, "automargin": True}
    return base | {"linecolor": "rgba(128,128,128,0.6)", "ticks": "outside", "tickcolor": "rgba(128,128,128,0.6)"} | more


def log_ticks(values: Iterable[float]) -> dict[str, list]:
    """Ticks of a logarithmic axis in full numbers: plotly would write 0.2 as a small 2. Empty if nothing is positive."""
    positive = [value for value in values if isfinite(value) and value > 0]
    if not positive:
        return {}
    marks = [mark for mark in round_numbers(0.7 * min(positive), 1.4 * max(positive), True) if mark > 0]
    return {"tickvals": marks, "ticktext": [number(mark, 3) for mark in marks]}


def number(value: float | None, digits: int = 4) -> str:
    """A number as people write it: 4 significant digits, no exponent between 0.001 and 100,000."""
    if value is None or not isfinite(value):
        return "unknown" if value is None or value != value else ("∞" if value > 0 else "−∞")
    text = f"{value:.{digits}g}"
    if "e" in text and 1e-4 <= abs(value) < 1e6:
        text = f"{float(text):,.{max(0, digits - 1 - floor(log10(abs(value))))}f}"
    return text.replace("-", "−")


@dataclass(frozen=True)
class LossColours:
    """One scale of colours for losses: logarithmic where all are positive, else linear (a log would hide the sign).

    Attributes:
        log: whether colours are spaced by log10.
        low, high: the range, as losses.
        threshold: L0, marked on the colour bar.
    """

    log: bool
    low: float
    high: float
    threshold: float

    @classmethod
    def of(cls, losses: Tensor, threshold: float) -> "LossColours":
        """The scale that holds all finite losses `(k,)`."""
        finite = losses[losses.isfinite()]
        if not len(finite):
            return cls(False, threshold - 1, threshold + 1, threshold)
        low, high = finite.min().item(), finite.max().item()
        log = low > 0
        if high - low <= 1e-9 * max(abs(low), abs(high), 1e-300):
            low, high = (low / 1.1, high * 1.1) if log else (low - 1, high + 1)
        return cls(log, low, high, threshold)

    def values(self, losses: Tensor) -> np.ndarray:
        """What plotly colours: log10 or the losses; infinities take the top colour."""
        clipped = np.clip(losses.double().numpy(), self.low, self.high)
        return np.log10(clipped) if self.log else clipped

    def limits(self) -> tuple[float, float]:
        """The range in the units of `values`."""
        return (log10(self.low), log10(self.high)) if self.log else (self.low, self.high)

    def ticks(self) -> tuple[list[float], list[str]]:
        """ConstraintPoints and texts; the threshold is one of them, and others keep clear of it."""
        low, high = self.limits()
        to_axis = log10 if self.log else float
        marks = [v for v in round_numbers(self.low, self.high, self.log) if low <= to_axis(v) <= high]
        inside = (self.threshold > 0 or not self.log) and low <= to_axis(self.threshold) <= high
        if inside:
            marks = [v for v in marks if abs(to_axis(v) - to_axis(self.threshold)) > 0.17 * (high - low)]
        places, texts = [to_axis(v) for v in marks], [number(v, 3) for v in marks]
        if inside:
            places, texts = [*places, to_axis(self.threshold)], [*texts, f"<b>L₀ {number(self.threshold, 3)}</b>"]
        return places, texts

    def axis(self, **bar: object) -> dict:
        """A plotly coloraxis with a horizontal bar below the figure."""
        low, high = self.limits()
        places, texts = self.ticks()
        shape = {"orientation": "h", "thickness": 12, "len": 0.86, "x": 0.5, "y": -0.02, "yanchor": "top", "outlinewidth": 0}
        title = {"text": "loss, logarithmic colours" if self.log else "loss", "side": "bottom"}
        bar = shape | {"title": title, "tickvals": places, "ticktext": texts, "ticks": "outside"} | bar
        return {"colorscale": MAP, "cmin": low, "cmax": high, "colorbar": bar}


def round_numbers(low: float, high: float, log: bool, most: int = 6) -> list[float]:
    """Few round numbers between two others: powers of ten, or 1-2-5 steps."""
    if log and high / low > 8:
        decades = range(floor(log10(low)), ceil(log10(high)) + 1)
        for digits in ((1, 2, 5), (1, 3), (1,)):
            marks = [d * 10.0**e for e in decades for d in digits if low <= d * 10.0**e <= high]
            if 2 <= len(marks) <= most:
                return marks
        return marks[:: ceil(len(marks) / most)]
    raw = (high - low) / (most - 1)
    step = min((s * 10.0 ** floor(log10(raw)) for s in (1, 2, 5, 10)), key=lambda s: (s < raw, s))
    return [round(i * step, 12) for i in range(ceil(low / step), floor(high / step) + 1)]
