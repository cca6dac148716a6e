"""The site: every public name has its entry, every page its place."""

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
