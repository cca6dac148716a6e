"""A short run of each part of the campaign of faults: see `benchmarks.faults`."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def part(name):
    sys.path.insert(0, str(ROOT))
    try:
        return importlib.import_module(f"benchmarks.faults.{name}")
    finally:
        sys.path.remove(str(ROOT))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "count", "tried"), [("runs", 10, "commands"), ("kills", 2, "kills"), ("writers", 1, "pairs of writers")]
)
def test_no_fault_is_found_in_a_few_tries(name, count, tried):
    found = part(name).run(count, seed=17)
    assert found[tried] >= count and found["failures"] == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_full_disk_is_the_machines_failure_and_is_gone_on_from():
    found = part("disk").run(2, seed=17)
    assert found["full disks"] == 2 and found["failures"] == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_connections_leave_no_memory_and_no_file_behind(tmp_path):
    memory, files = part("machine")._connections(12)
    assert files == 0 and memory < 2**24


def test_a_damaged_file_is_found_by_the_campaign_itself(tmp_path):
    """The oracle of false proofs is no ornament: a page that says more than the network bears out is told."""
    runs, subject = part("runs"), part("subject").Subject(tmp_path / "models")
    folder = tmp_path / "run"
    code, _, err = part("subject").called(subject.connect(folder))
    assert code == 0, err
    ended = part("apart").Ended(0, "connected: proved: the loss is at most 0.0001", "")
    assert runs._false(subject, ["connect"], folder, ended) is None
    summary = json.loads((folder / "summary.json").read_text()) | {"upper_bound": 0.0001}
    (folder / "summary.json").write_text(json.dumps(summary))
    assert runs._false(subject, ["connect"], folder, ended) == "false proof"


def test_the_campaign_has_a_command(tmp_path):
    words = [sys.executable, "-m", "benchmarks.faults", "--help"]
    shown = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert all(name in shown for name in ("runs", "kills", "disk", "machine", "writers"))
