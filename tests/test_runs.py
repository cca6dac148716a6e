"""Run folders: what is written reads back, and nothing is lost or overwritten."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import dss
from dss.runs import STEPS, RunRecorder, check_free, load_path, load_run

MODEL = nn.Linear(1, 1)  # two coordinates, so that analytic objectives stand for its loss
QUESTION = {"threshold": -40.5, "parameters": ["weight", "bias"]}


def problem():
    ends = [torch.tensor(m, dtype=torch.float64) for m in dss.MuellerBrown.minima[:2]]
    return dss.Problem.of(dss.MuellerBrown(), *ends, threshold=-40.5)


@pytest.fixture
def recorded(tmp_path):
    """A finished run and its steps."""
    question, finder = problem(), dss.GreedyString()
    recorder = RunRecorder.start(tmp_path / "run", QUESTION)
    steps = []
    for step in finder.steps(question):
        recorder.record(step, question.tally, 1.0)
        steps.append(step)
    recorder.finish(dss.conclude(question, finder, steps[-1]), dss.ParameterSpace.of(MODEL))
    return tmp_path / "run", steps


def test_path_summary_and_history_read_back(recorded):
    folder, steps = recorded
    run = load_run(folder)
    assert run.summary["connected"] and run.summary["upper_bound"] is None and not run.summary["proven"]
    assert torch.equal(run.path.beads, steps[-1].path.beads)
    history = list(run.history)
    assert len(history) == len(steps)
    for snapshot, step in zip(history, steps, strict=True):
        assert torch.equal(snapshot.path.beads, step.path.beads) and snapshot.step.status is step.status
        assert torch.equal(snapshot.step.maxima.nan_to_num(-1), step.maxima.nan_to_num(-1))


def test_the_path_file_has_one_entry_per_parameter(recorded):
    folder, steps = recorded
    tensors = load_file(folder / "path.safetensors")
    n = len(steps[-1].path)
    assert {name: tuple(value.shape) for name, value in tensors.items()} == {"weight": (n, 1, 1), "bias": (n, 1)}
    assert torch.equal(load_path(folder / "path.safetensors", dss.ParameterSpace.of(MODEL)).beads, steps[-1].path.beads)


def test_each_bead_is_stored_once(recorded):
    folder, steps = recorded
    stored = [load_file(file) for file in (folder / "snapshots").glob("*.safetensors")]
    distinct = torch.cat([step.path.beads for step in steps]).unique(dim=0)
    assert sum(map(len, stored)) == len(distinct)


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_search_resumes_to_the_same_path_from_any_step_and_a_torn_line(recorded, cut):
    folder, steps = recorded
    lines = (folder / STEPS).read_text().splitlines(keepends=True)
    (folder / STEPS).write_text("".join(lines[:cut]) + lines[cut][:37])
    recorder, last = RunRecorder.resume(folder, QUESTION)
    question = problem()
    question.tally.restore(last.tally)
    for step in dss.GreedyString().steps(question, resume=last.step):
        recorder.record(step, question.tally, 2.0)
    assert torch.equal(step.path.beads, steps[-1].path.beads)
    assert len(list(load_run(folder).history)) == len(steps)


def test_another_question_is_not_resumed(recorded):
    with pytest.raises(dss.RunError, match="another threshold"):
        RunRecorder.resume(recorded[0], QUESTION | {"threshold": 1.0})


def test_runs_and_foreign_folders_are_not_overwritten(recorded, tmp_path):
    folder, _ = recorded
    before = (folder / STEPS).read_bytes()
    with pytest.raises(dss.RunError, match="holds a run already"):
        RunRecorder.start(folder, QUESTION)
    assert (folder / STEPS).read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(dss.RunError, match="holds no run"):
            check_free(tmp_path / "mine", overwrite=overwrite)
    (folder / "notes.txt").write_text("kept")
    RunRecorder.start(folder, QUESTION, overwrite=True)
    assert not (folder / "summary.json").exists() and (folder / "notes.txt").exists()


@pytest.mark.parametrize("name", ["run.json", "summary.json", "path.safetensors"])
def test_damaged_runs_are_refused(recorded, name):
    (recorded[0] / name).write_text("{")
    with pytest.raises(dss.RunError, match=r"damaged|not a readable"):
        load_run(recorded[0])


def test_what_holds_no_run_is_refused(tmp_path):
    with pytest.raises(dss.RunError, match="holds no run"):
        load_run(tmp_path)
    save_file({"weight": torch.zeros(2, 1, 1), "bias": torch.zeros(3, 1)}, tmp_path / "uneven.safetensors")
    save_file({"weight": torch.zeros(2, 2, 1)}, tmp_path / "other.safetensors")
    for name, message in (("uneven", "unequal bead counts"), ("other", "weight, bias")):
        with pytest.raises(dss.RunError, match=message):
            load_path(tmp_path / f"{name}.safetensors", dss.ParameterSpace.of(MODEL))
