"""What the experiments on the source texts share: pieces of work that resume, panels of curves, and one command line."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from dss import figures
from experiments.results import Record, Results

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
Parts = Mapping[tuple[str, float], Callable[[], list[Record]]]


@dataclass(frozen=True)
class Curve:
    """Points `(x, y)` under one name, joined by a line, or loose; a dashed line is a law."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    law: bool = False
    loose: bool = False


@dataclass(frozen=True)
class Panel:
    """Curves on common axes, logarithmic unless it says otherwise."""

    title: str
    across: str
    curves: Sequence[Curve]
    log_x: bool = True
    log_y: bool = True


def finish(results: Results, parts: Parts) -> Results:
    """Do what is not done yet, in the given order, and say what came out in a line for each piece."""
    for (name, size), part in parts.items():
        if not results.has(name, float(size)):
            records = part()
            results.add(name, float(size), records)
            print(f"{name}, {size:g}: {_words(records)}", flush=True)
    return results


def records_of(results: Results, name: str) -> dict[float, list[Record]]:
    """Records of one kind of work by size, rising."""
    found = {float(size): records for size, records in results.records.get(name, {}).items()}
    return dict(sorted(found.items()))


def values_of(records: Sequence[Record], key: str) -> list[float]:
    """One figure of several records."""
    return [float(record[key]) for record in records]  # type: ignore[arg-type]


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the least-squares line through the logarithms."""
    points = torch.tensor([x, y], dtype=torch.float64).log()
    across, up = points - points.mean(1, keepdim=True)
    return ((across @ up) / (across @ across)).item()


def drawing(panels: Sequence[Panel]) -> go.Figure:
    """Panels side by side, each with its own legend in its title's colours."""
    figure = make_subplots(1, len(panels), subplot_titles=[panel.title for panel in panels], horizontal_spacing=0.09)
    for column, panel in enumerate(panels, 1):
        for i, curve in enumerate(panel.curves):
            figure.add_trace(_trace(curve, i, column), row=1, col=column)
        figure.update_xaxes(**_axis(panel.across, [v for c in panel.curves for v in c.x], panel.log_x), row=1, col=column)
        figure.update_yaxes(**_axis("", [v for c in panel.curves for v in c.y], panel.log_y), row=1, col=column)
    legends = {
        "legend" if column == 1 else f"legend{column}": {
            "orientation": "v", "xref": "paper", "yref": "paper", "xanchor": "center", "yanchor": "top", "y": -0.2,
            "x": (column - 0.5) / len(panels), "font": {"size": 12},
        }
        for column in range(1, len(panels) + 1)
    }  # fmt: skip
    most = max(len(panel.curves) for panel in panels)
    margin = {"t": 40, "b": 66 + 21 * most, "l": 62, "r": 16}
    figure.update_annotations(font_size=13)
    return figure.update_layout(figures.style.layout(margin=margin, paper_bgcolor="white", height=330 + 21 * most, **legends))


def command(
    about: str | None, name: str, run: Callable[..., Results], picture: Callable[[Results], go.Figure], quick: Mapping[str, Any]
):
    """The command line of an experiment: `--quick` goes into runs/; else the JSON beside the script and the figure in docs/."""
    parser = argparse.ArgumentParser(description=(about or name).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds, into runs/")
    options = parser.parse_args()
    torch.set_num_threads(1)
    (HERE / "runs").mkdir(exist_ok=True)
    results = run(HERE / "runs" / f"{name}-quick.json", **quick) if options.quick else run(HERE / f"{name}.json")
    figure = picture(results)
    if options.quick:
        figure.write_html(HERE / "runs" / f"{name}-quick.html", include_plotlyjs=True)
    else:
        height = figure.to_dict()["layout"]["height"]
        figure.write_image(DOCS / f"{name.replace('_', '-')}.png", width=1100, height=height, scale=1)


def _trace(curve: Curve, index: int, column: int) -> go.Scatter:
    colour = figures.style.STRAIGHT if curve.law else figures.style.SERIES[index % len(figures.style.SERIES)]
    line = {"color": colour, "dash": "dash" if curve.law else "solid"}
    mode = "markers" if curve.loose else "lines" if curve.law or len(curve.x) > 20 else "lines+markers"
    legend = "legend" if column == 1 else f"legend{column}"
    return go.Scatter(x=list(curve.x), y=list(curve.y), name=curve.name, mode=mode, line=line, legend=legend)


def _axis(title: str, values: Sequence[float], log: bool) -> dict:
    return figures.style.axis(title, type="log", **figures.style.log_ticks(values)) if log else figures.style.axis(title)


def _words(records: Sequence[Record]) -> str:
    shown = ({k: v for k, v in record.items() if not isinstance(v, list)} for record in records[:4])
    text = "; ".join(", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in r.items()) for r in shown)
    return text + (f"; {len(records) - 4} more" if len(records) > 4 else "")
