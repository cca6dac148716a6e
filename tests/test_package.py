"""What is built is what works: wheel and source distribution, installed into an empty environment, run outside the repository."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*words, cwd, **more):
    """A command that must succeed; what it printed."""
    done = subprocess.run([*map(str, words)], cwd=cwd, capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The source distribution, and the wheel that is built from it: what is missing from the one is missing from the other."""
    folder = tmp_path_factory.mktemp("dist")
    copy = folder / "source"
    # Built from what git knows, in a place of its own: a build leaves folders beside the sources.
    files = run("git", "ls-files", "-z", cwd=ROOT).split("\0")[:-1]
    for file in files:
        if (ROOT / file).is_file():
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            (copy / file).write_bytes((ROOT / file).read_bytes())
    build = "import setuptools.build_meta as build, sys; print(getattr(build, f'build_{sys.argv[1]}')(sys.argv[2]))"
    sdist = folder / run(sys.executable, "-W", "ignore", "-c", build, "sdist", folder, cwd=copy).split()[-1]
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    wheel = folder / run(sys.executable, "-W", "ignore", "-c", build, "wheel", folder, cwd=unpacked).split()[-1]
    return sdist, wheel


@pytest.mark.slow
def test_the_wheel_holds_the_package_alone_with_all_its_files(built):
    _, wheel = built
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "dss").rglob("*")
        if file.suffix in (".py", ".js", ".css", ".html", ".typed")
    }
    assert package <= names
    assert {name.split("/")[0] for name in names - package} == {next(n for n in names if n.endswith("/METADATA")).split("/")[0]}


@pytest.mark.slow
def test_an_empty_environment_trains_connects_and_draws_from_the_wheel(built, tmp_path):
    """A job that is small: most of the test is the installation. `dss demo` itself is run so by hand, before a release."""
    _, wheel = built
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run(python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel, cwd=tmp_path, env=clean)
    place = run(python, "-c", "import dss; print(dss.__file__)", cwd=tmp_path, env=clean).strip()
    assert place.startswith(str(tmp_path / "env"))
    dss = tmp_path / "env" / "bin" / "dss"
    assert "digits" in run(dss, "tasks", cwd=tmp_path, env=clean)
    for seed in "01":
        run(dss, "train", "digits", "--epochs", "1", "--seed", seed, "--out", f"{seed}.pt", cwd=tmp_path, env=clean)
    # Twice the larger end: the straight line will do, and is judged and drawn.
    words = ("connect", "0.pt", "1.pt", "--task", "digits", "--threshold", "2x", "--prove", "never", "--out", "path")
    assert "connected" in run(dss, *words, cwd=tmp_path, env=clean)
    assert (tmp_path / "path" / "report.html").stat().st_size > 1e6
