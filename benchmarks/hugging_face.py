"""Which of Hugging Face's architectures can be proved, as they are: their own loss, masks and all.

    python -m benchmarks.hugging_face [NAME ...] [--out benchmarks/hugging_face.json]

Each is made small, with random weights (`benchmarks.hugging_face_models`), and a segment leads to a copy moved at random. Cells around the middle of it are
bounded, and the bound is compared with the largest loss on a grid of 33 points of the cell. What is in the file is not measured again.
"""

import argparse
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

import dss
from benchmarks.records import Record, Records, as_table

FILE = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).parent.parent / "docs" / "models.md"
TABLE = "hugging face"
WIDTHS = {"1/64": 1 / 64, "1/512": 1 / 512}
STEP, GRID = 0.05, 33
"""How far the other end lies in each coordinate, as a deviation; points of the grid."""


def measured(made: Callable[[], tuple[nn.Module, dict[str, Tensor]]]) -> Record:
    """How far bounds lie above the largest loss, by the width of the cell; or why there is none."""
    torch.manual_seed(0)
    model, batch = made()
    try:
        objective = dss.NetworkObjective(model.eval(), dss.own_loss, batch, buffers="frozen")
        start = objective.flatten(model.state_dict())
        end = start + STEP * torch.randn(start.shape, generator=torch.Generator().manual_seed(1))
        return {"parameters": len(start)} | {label: _gap(objective, start, end, width) for label, width in WIDTHS.items()}
    except dss.InputError as error:  # of which a refused operation is one
        return {"refused": str(error)}


def _gap(objective: dss.NetworkObjective, start: Tensor, end: Tensor, width: float) -> float | None:
    """None for a cell without a bound."""
    lower, upper = (torch.tensor([0.5 + side * width / 2], dtype=torch.float64) for side in (-1, 1))
    bound = objective.enclose(start[None], end[None], lower, upper).max().item()
    grid = torch.linspace(lower.item(), upper.item(), GRID, dtype=torch.float64)[:, None]
    with torch.no_grad():
        most = objective(torch.lerp(start.double(), end.double(), grid)).max().item()
    return bound - most if math.isfinite(bound) else None


def pages_of(results: Mapping[str, Mapping[str, Record]]) -> dict[str, str]:
    """The table of the page: what is bounded, and what is not, with its cause."""
    rows = []
    for name, it in results[TABLE].items():
        if "refused" in it:
            rows.append((name, "", *[""] * len(WIDTHS), f"refused: {_short(it['refused'])}"))
        else:
            gaps = ["none" if it[label] is None else f"{it[label]:.1g}" for label in WIDTHS]
            rows.append((name, f"{it['parameters']:,}", *gaps, ""))
    return {TABLE: as_table(("architecture", "parameters", *(f"cell {label} wide" for label in WIDTHS), ""), rows)}


def _short(cause: str) -> str:
    """A refusal's beginning, as far as it names what is in the way."""
    return cause.partition(", called in")[0].partition(": was something")[0].partition(", it must override")[0]


def main() -> None:
    from benchmarks.hugging_face_models import MODELS  # which takes seconds, and is not asked for by tables

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(MODELS), metavar="NAME", help=f"of {', '.join(MODELS)}; all by default")
    parser.add_argument("--out", type=Path, default=FILE)
    options = parser.parse_args()
    records = Records(options.out)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in options.names:
        if name not in MODELS:
            parser.error(f"no architecture is called {name!r}; there are {', '.join(MODELS)}")
        if not records.has(TABLE, name):
            records.add(TABLE, name, measured(MODELS[name]))
        print(name, records.results[TABLE][name], flush=True)


if __name__ == "__main__":
    main()
