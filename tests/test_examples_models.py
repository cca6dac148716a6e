"""The examples of models beyond plain ones run as they are written: both ends are saved, and a path between them is found."""

import importlib.util
from pathlib import Path

import pytest

import dss

FOLDER = Path(__file__).parent.parent / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pinn", "resnet", "unet"])
def test_an_example_joins_its_two_ends(name, tmp_path):
    module = example(name)
    found = module.main(tmp_path) if name == "pinn" else module.main(tmp_path, epochs=1)
    assert found.connected and found.certificate.max_loss <= found.problem.threshold
    _, judge = module.task().objectives()
    ends = [dss.load_point(tmp_path / f"{end}.pt", judge.space) for end in "ab"]
    assert all((end == bead).all() for end, bead in zip(ends, found.path.beads[[0, -1]], strict=True))
