"""Draw every table whose figures are kept as JSON into its page, and the page of benchmarks: `python -m benchmarks.tables`.

A benchmark has `FILE` (its JSON), `PAGE` (where its tables stand) and `pages_of(results)` (the tables by name); `experiments.panels` has those of
docs/paper.md. A page says where a table begins and ends, see `benchmarks.records`. A test compares the pages with the files.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from benchmarks import architectures, convex, disconnection, hugging_face, proof, ranks, rebasin, rivals, symmetry, verifiers
from benchmarks.records import Record, Records, as_table, redrawn
from experiments.panels import panels

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
PAPER, OVERVIEW = DOCS / "paper.md", DOCS / "benchmarks.md"

# What is measured, by which module, in the words of the overview.
KEPT: Mapping[ModuleType, str] = {
    proof: "Proofs of whole paths",
    architectures: "Every architecture of models/ and examples/, proved or not",
    hugging_face: "Hugging Face's architectures, bounded as they are",
    verifiers: "Proofs beside auto_LiRPA",
    symmetry: "What reordering units is worth",
    rebasin: "Planted permutations, given to rebasin",
    ranks: "One connection on several ranks",
    rivals: "Finders side by side",
    convex: "A proven path, soon",
    disconnection: "How soon a string says that it cannot get through",
}
WORDS = {
    "dss": "version of this package",
    "torch": "torch",
    "numpy": "NumPy",
    "python": "Python",
    "processor": "processor",
    "cores": "cores",
    "threads": "threads of torch",
    "date": "last measured",
    "commit": "commit",
}


def pages() -> dict[Path, str]:
    """Every drawn page as it must be: the pages with tables, as they are but for these, and the overview."""
    drawn = {
        PAPER: redrawn(PAPER.read_text(encoding="utf-8"), {name: draw() for name, draw in panels().items() if name in shown()})
    }
    for benchmark in KEPT:
        page = Path(benchmark.PAGE)
        text = drawn.get(page) or page.read_text(encoding="utf-8")
        drawn[page] = redrawn(text, benchmark.pages_of(Records(benchmark.FILE).results))
    text = OVERVIEW.read_text(encoding="utf-8")
    return drawn | {OVERVIEW: redrawn(text, {"the environments": environments(), "the tables": "\n\n".join(map(section, KEPT))})}


def shown() -> set[str]:
    """Which panels docs/paper.md has a place for: one that is still running has none yet."""
    text = PAPER.read_text(encoding="utf-8")
    return {name for name in panels() if f"<!-- {name}, drawn by" in text}


def environments() -> str:
    """In which environment each file was measured: a column a file, a row a fact."""
    found: dict[str, Record] = {file.stem: Records(file).environment or {} for file in sorted(HERE.glob("*.json"))}
    rows = [(words, *(env.get(key) or "not kept" for env in found.values())) for key, words in WORDS.items()]
    return as_table(("", *found), rows)


def section(benchmark: ModuleType) -> str:
    """A benchmark's heading, its command, where its figures are explained, and its tables."""
    page = Path(benchmark.PAGE).name
    command = (
        f"`python -m {benchmark.__name__}`, figures in `benchmarks/{Path(benchmark.FILE).name}`, explained in [{page}]({page})."
    )
    tables = benchmark.pages_of(Records(benchmark.FILE).results)
    return "\n\n".join([f"## {KEPT[benchmark]}", command, *tables.values()])


def main() -> None:
    argparse.ArgumentParser(description="draw the tables of the pages from the figures that are kept").parse_args()
    for page, text in pages().items():
        if page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")
            print(f"drew {page.relative_to(DOCS.parent)}")


if __name__ == "__main__":
    main()
