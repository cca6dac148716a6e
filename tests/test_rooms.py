"""The order of the rooms in docs/design.md is kept, and each library stays in its room."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dss

ROOT = Path(dss.__file__).parent
ROOMS = re.findall(r"^\| `(\w+)` \|", (ROOT.parent / "docs" / "design.md").read_text(), re.MULTILINE)
LIBRARIES = {
    "plotly": {"page"},
    "sklearn": {"tasks", "page", "theory"},
    "tqdm": {"base"},
    "argparse": {"cli"},
    "models": set(),
    "experiments": set(),
    "benchmarks": set(),
}


sys.path.insert(0, str(ROOT.parent / "docs"))
house = importlib.import_module("house")
imports = house.imports


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


def test_no_files_import_each_other_in_a_circle():
    graph = house.files()
    faces = {module for module in graph if any(other.startswith(module + ".") for other in graph)}
    order, circle = house.floors({m: t - faces for m, t in graph.items() if m not in faces})
    assert not circle and len(order) == len(graph) - len(faces)


def test_the_drawing_of_the_house_is_the_present_one():
    drawn = house.DESIGN.read_text(encoding="utf-8").split(house.BEGIN)[1].split(house.END)[0].strip()
    assert drawn == house.drawing(house.files()), "run python docs/house.py"


def test_each_library_stays_in_its_room():
    wrong = [
        f"{file.relative_to(ROOT)}:{line} imports {module}"
        for file in ROOT.rglob("*.py")
        for module, line in imports(file)
        if (allowed := LIBRARIES.get(module.split(".")[0])) is not None
        and file.relative_to(ROOT).with_suffix("").parts[0] not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_what_the_package_shows_is_what_it_offers():
    """In a fresh process: what other tests imported must not count."""
    script = "import dss; print(*sorted(n for n in vars(dss) if n == '__version__' or not n.startswith('_')))"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert shown.stdout.split() == dss.__all__ == sorted(set(dss.__all__))


def test_wings_stay_within_reach():
    assert dss.theory.disconnection_threshold is dss.disconnection_threshold
    with pytest.raises(AttributeError, match="no attribute 'thoery'"):
        _ = dss.thoery


@pytest.mark.parametrize("folder", ["experiments", "benchmarks"])
def test_what_stands_outside_uses_public_names_only(folder):
    wrong = [
        f"{file.name}:{line} imports {module}"
        for file in (ROOT.parent / folder).glob("*.py")
        for module, line in imports(file)
        if module.split(".")[0] == "dss" and module.removeprefix("dss.") not in ("dss", *dss.__all__)
    ]
    assert not wrong, "\n".join(wrong)
