"""Length against time, one curve a finder, from the figures of `benchmarks.rivals`: `python -m benchmarks.lengths docs/lengths.png`.

Medians over the pairs that were connected: from the first string that passed to the end of the search, for `bend` also with six times
the pulling; the chain's curve leads through its rates.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from plotly.graph_objects import Figure, Scatter
from plotly.subplots import make_subplots

from benchmarks.records import Record, Records
from benchmarks.rivals import FILE, TUNED, chain_name

FIRST, END = ("first, s", "first length"), ("end, s", "length")
# Curves: their points, as finder and what was measured of it.
CURVES = {
    "bend": [("bend", FIRST), ("bend", END), ("bend, six times the pulling", END)],
    "greedy": [("greedy", END)],
    "geodesic": [("geodesic", END)],
    "chain": [(chain_name(*tuned), END) for tuned in TUNED if tuned[1] is None],
    "chain, batch 64": [(chain_name(*tuned), END) for tuned in TUNED if tuned[1] == 64],
    "band (AutoNEB)": [("band (AutoNEB)", END)],
}


def points(rows: Mapping[str, Record], curve: str) -> list[tuple[float, float]]:
    """Seconds and lengths of a curve, as far as they were measured."""
    found = []
    for finder, (seconds, length) in CURVES[curve]:
        mine = [row for key, row in rows.items() if key.partition(" / ")[2] == finder and row["found"]]
        if mine:
            found.append((median(row[seconds] for row in mine), median(row[length] for row in mine)))
    return found


# Panels beside each other.
ACROSS = 4


def drawn(results: Mapping[str, Mapping[str, Record]]) -> Figure:
    """A panel a task."""
    down = -(-len(results) // ACROSS)
    figure = make_subplots(rows=down, cols=ACROSS, subplot_titles=list(results), vertical_spacing=0.3 / down)
    colours = dict(zip(CURVES, ("#0072B2", "#D55E00", "#009E73", "#999999", "#CC79A7", "#56B4E9"), strict=True))
    shown = set()
    for panel, rows in enumerate(results.values()):
        for curve in CURVES:
            if at := points(rows, curve):
                x, y = zip(*at, strict=True)
                legend = {"name": curve, "legendgroup": curve, "showlegend": curve not in shown}
                shown.add(curve)
                figure.add_trace(
                    Scatter(x=x, y=y, mode="lines+markers", line_color=colours[curve], **legend),
                    1 + panel // ACROSS,
                    1 + panel % ACROSS,
                )
    figure.update_xaxes(type="log").update_xaxes(title="processor seconds", row=down)
    figure.update_yaxes(title="normalized length", col=1)
    return figure.update_layout(
        template="simple_white",
        width=360 * ACROSS,
        height=120 + 280 * down,
        margin={"t": 40},
        legend={"orientation": "h", "y": -0.25 / down},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="an image file")
    parser.add_argument("--figures", type=Path, default=FILE, help="of the rivals (default: %(default)s)")
    options = parser.parse_args()
    drawn(Records(options.figures).results).write_image(options.out)


if __name__ == "__main__":
    main()
