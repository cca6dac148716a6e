"""The site: every public name has its entry, every page its place."""

import importlib.util
import json
import re
from pathlib import Path

import dss

DOCS = Path(__file__).parents[1] / "docs"


def test_every_public_name_has_an_entry_in_the_reference_and_no_other_has():
    entries = re.findall(r"^::: dss\.(\w+)$", "\n".join(f.read_text(encoding="utf-8") for f in (DOCS / "api").glob("*.md")), re.M)
    assert sorted(entries) == sorted(set(dss.__all__) - {"__version__"})


def test_notebooks_are_kept_without_outputs():
    for file in (DOCS / "tutorials").glob("*.ipynb"):
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        assert cells[0]["source"][0].startswith("# ")
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells), file.name


def test_links_between_pages_lead_somewhere():
    for file in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", file.read_text(encoding="utf-8")):
            assert (file.parent / target).exists(), f"{file.name} links to {target}"


def test_the_gallery_has_the_figures_that_a_tutorial_shows(tmp_path):
    cells = [
        {"cell_type": "markdown", "source": ["# Two figures"]},
        {
            "cell_type": "code",
            "source": [
                "import plotly.graph_objects as go\n",
                "\n",
                "for x in (1, 2):\n",
                "    go.Figure(go.Scatter(x=[x])).show()",
            ],
        },
    ]
    notebook = tmp_path / "two.ipynb"
    notebook.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("pictures", DOCS / "pictures.py")
    assert spec is not None and spec.loader is not None
    pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pictures)
    plain = pictures.go.Figure.show
    assert [figure.data[0].x for figure in pictures.shown_by(notebook)] == [(1,), (2,)]
    assert pictures.go.Figure.show is plain


def test_every_tutorial_with_a_picture_has_it_in_the_gallery():
    gallery = (DOCS / "tutorials" / "gallery.md").read_text(encoding="utf-8")
    for picture in (DOCS / "pictures").iterdir():
        assert f"../pictures/{picture.name}" in gallery
