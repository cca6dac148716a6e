"""The order of the rooms in docs/design.md is kept, and each library stays in its room."""

import ast
import re
from pathlib import Path

import dss

ROOT = Path(dss.__file__).parent
ROOMS = re.findall(r"^\| `(\w+)` \|", (ROOT.parent / "docs" / "design.md").read_text(), re.MULTILINE)
LIBRARIES = {
    "plotly": {"figures", "report"},
    "sklearn": {"tasks", "projection", "theory"},
    "tqdm": {"cli"},
    "argparse": {"cli"},
    "models": set(),
    "experiments": set(),
    "benchmarks": set(),
}


def imports(file):
    """(imported module, line) of a file, function bodies included."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module, node.lineno


def room(module):
    """The room of a dotted module of the package; None for the package itself."""
    parts = module.split(".")
    return parts[1] if parts[0] == "dss" and len(parts) > 1 else None


def inner_files():
    return [file for file in ROOT.rglob("*.py") if file.parent != ROOT or not file.name.startswith("__")]


def test_every_room_is_in_the_list_and_there():
    found = {file.relative_to(ROOT).with_suffix("").parts[0] for file in inner_files()}
    assert found == set(ROOMS)


def test_files_import_only_from_rooms_above_their_own():
    wrong = [
        f"{file.relative_to(ROOT)}:{line} imports {module}"
        for file in inner_files()
        for module, line in imports(file)
        if (target := room(module)) is not None
        and ROOMS.index(target) > ROOMS.index(file.relative_to(ROOT).with_suffix("").parts[0])
    ]
    assert not wrong, "\n".join(wrong)


def test_each_library_stays_in_its_room():
    wrong = [
        f"{file.relative_to(ROOT)}:{line} imports {module}"
        for file in ROOT.rglob("*.py")
        for module, line in imports(file)
        if (allowed := LIBRARIES.get(module.split(".")[0])) is not None
        and file.relative_to(ROOT).with_suffix("").parts[0] not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_the_public_names_are_complete_sorted_and_there():
    assert dss.__all__ == sorted(dss.__all__) and len(set(dss.__all__)) == len(dss.__all__)
    assert all(hasattr(dss, name) for name in dss.__all__)
    tree = ast.parse((ROOT / "__init__.py").read_text())
    imported = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported == set(dss.__all__)
