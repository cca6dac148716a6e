"""Draw the gallery's pictures: run the tutorials, and keep every figure that they show as `docs/pictures/TUTORIAL-N.png`.

`python docs/pictures.py [TUTORIAL ...]` takes minutes for all of them, and needs kaleido (the extra `figures`).
"""

import ast
import json
import sys
from pathlib import Path

import plotly.graph_objects as go
import torch

DOCS = Path(__file__).parent
WIDTH, HEIGHT, SCALE = 760, 480, 1.5


def code_of(notebook: Path) -> str:
    """The cells of a notebook, one after the other."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def shown_by(notebook: Path) -> list[go.Figure]:
    """The figures that a notebook shows, in order."""
    figures: list[go.Figure] = []
    plain = go.Figure.show

    def keep(self: go.Figure, *_, **__) -> None:
        figures.append(self)

    go.Figure.show = keep
    try:
        torch.manual_seed(0)
        exec(compile(ast.parse(code_of(notebook)), notebook.name, "exec"), {"__name__": notebook.stem})
    finally:
        go.Figure.show = plain
    return figures


def untitled(figure: go.Figure) -> go.Figure:
    """The figure; one in space without titles of axes, which a still picture cuts or lays over each other."""
    if "scene" in figure.to_dict()["layout"]:
        figure.update_scenes(xaxis_title_text="", yaxis_title_text="", zaxis_title_text="")
    return figure


def main(names: list[str]) -> None:
    notebooks = sorted((DOCS / "tutorials").glob("*.ipynb"))
    for notebook in notebooks:
        if names and notebook.stem not in names:
            continue
        for i, figure in enumerate(shown_by(notebook), start=1):
            file = DOCS / "pictures" / f"{notebook.stem}-{i}.png"
            untitled(figure).write_image(file, width=WIDTH, height=HEIGHT, scale=SCALE)
            print(file.relative_to(DOCS.parent), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
