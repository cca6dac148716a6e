"""Draw the house: which wing imports which, and in which order the files of a wing stand.

`python docs/house.py` prints the three numbers (rooms, arrows, circles) and writes the drawing into `docs/design.md`;
`tests/test_rooms.py` checks that it is the present one.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE, DESIGN = ROOT / "dss", ROOT / "docs" / "design.md"
BEGIN, END = "<!-- drawn by docs/house.py -->", "<!-- end of the drawing -->"

Graph = Mapping[str, set[str]]


def imports(file: Path) -> Iterator[tuple[str, int]]:
    """(imported module, line) of a file, function bodies included; `from dss import x` as `dss.x`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def module_of(file: Path) -> str:
    """`dss.base.path` of `dss/base/path.py`, and `dss.base` of `dss/base/__init__.py`."""
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files() -> dict[str, set[str]]:
    """Every module of the package, and the modules of it that it imports."""
    modules = {module_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}
    return {
        name: {target for target, _ in imports(file) if target in modules and target != name} for name, file in modules.items()
    }


def wing(module: str) -> str | None:
    """The wing of a module; None for the face of the package, which hands everything on."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and not parts[1].startswith("__") else None


def wings(graph: Graph) -> dict[str, set[str]]:
    """Every wing, and the other wings that its files import."""
    found: dict[str, set[str]] = {}
    for module, targets in graph.items():
        if (own := wing(module)) is not None:
            found.setdefault(own, set()).update(w for t in targets if (w := wing(t)) not in (None, own))
    return found


def floors(graph: Graph) -> tuple[list[str], list[str]]:
    """Names in an order in which each stands above all that it imports; and those in circles, which have no order."""
    order: list[str] = []
    waiting = {name: targets & graph.keys() for name, targets in graph.items()}
    while ready := sorted(name for name, targets in waiting.items() if targets <= set(order)):
        order.append(ready[0])
        del waiting[ready[0]]
    return order, sorted(waiting)


def inside(graph: Graph, name: str) -> list[str]:
    """The files of a wing from the ground up; faces (`__init__`) are left out, for they only hand names on."""
    faces = {module for module in graph if any(other.startswith(module + ".") for other in graph)}
    own = {module: targets for module, targets in graph.items() if wing(module) == name and module not in faces}
    order, circle = floors({module: _behind_faces(graph, targets, faces) - {module} for module, targets in own.items()})
    return [module.split(".", 2)[-1] for module in (*order, *circle)]


def _behind_faces(graph: Graph, targets: Iterable[str], faces: set[str]) -> set[str]:
    return {target for target in targets if target not in faces}


def drawing(graph: Graph) -> str:
    """The section of `docs/design.md`: the numbers, the arrows as mermaid, the order inside wings."""
    between = wings(graph)
    order, circle = floors(between)
    arrows = [f"    {a} --> {b}" for a in order for b in sorted(between[a])]
    rows = [
        f"| `{name}` | {' · '.join(f'`{file}`' for file in inside(graph, name))} |"
        for name in order
        if len(inside(graph, name)) > 1
    ]
    return "\n".join(
        [
            f"{len(between)} rooms, {len(arrows)} arrows, {len(circle)} in circles.",
            "",
            "```mermaid",
            "graph TD",
            *arrows,
            "```",
            "",
            "Inside a wing, files import only from files to their left:",
            "",
            "| wing | files, from the ground up |",
            "|---|---|",
            *rows,
        ]
    )


def main() -> None:
    text, graph = DESIGN.read_text(encoding="utf-8"), files()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    DESIGN.write_text(f"{before}{BEGIN}\n{drawing(graph)}\n{END}{after}", encoding="utf-8")
    print(drawing(graph).splitlines()[0])


if __name__ == "__main__":
    main()
