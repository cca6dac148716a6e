"""Data larger than memory: the same numbers as in memory, chunk by chunk, in the memory of one chunk."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import dss
from dss.objectives.network import data as data_module
from dss.objectives.network import samples as samples_module
from dss.objectives.network.data import as_samples
from dss.objectives.network.samples import Samples, Streamed

N, FEATURES, CLASSES = 200, 6, 3
GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(N, FEATURES, generator=GENERATOR), torch.randint(CLASSES, (N,), generator=GENERATOR)


class Stream(IterableDataset):
    def __iter__(self):
        return zip(X, Y, strict=True)


def mapped(folder, *, mode="r", order="C"):
    """The inputs in a file that is mapped into memory."""
    file = np.memmap(folder / "x", np.float32, "w+", shape=(N, FEATURES), order=order)
    file[:] = X.numpy()
    file.flush()
    return np.memmap(folder / "x", np.float32, mode, shape=(N, FEATURES), order=order)


def loaded(folder):
    """The inputs as torch maps a checkpoint."""
    torch.save(X, folder / "x.pt")
    return torch.load(folder / "x.pt", mmap=True)


SOURCES = {
    "tensors": lambda folder: (X, Y),
    "read-only file": lambda folder: (mapped(folder), Y.numpy()),
    "file by columns": lambda folder: (mapped(folder, order="F"), Y),
    "file to write to": lambda folder: TensorDataset(torch.from_numpy(mapped(folder, mode="r+")), Y),
    "private copy of a file": lambda folder: {"input": mapped(folder, mode="c"), "labels": Y},
    "checkpoint": lambda folder: (loaded(folder), Y),
    "loader": lambda folder: DataLoader(TensorDataset(X, Y), batch_size=7),
    "stream": lambda folder: Stream(),
}


@pytest.fixture
def small(monkeypatch):
    """Limits that 5 kB of data exceed."""
    monkeypatch.setattr(data_module, "WHOLE_BYTES", 2000)
    monkeypatch.setattr(samples_module, "CHUNK_BYTES", 1000)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.ReLU(inplace=True), nn.Linear(FEATURES, CLASSES))


def judged(data, points, **options):
    """Losses, gradients, and those of a minibatch."""
    objective = dss.NetworkObjective(net(), cross_entropy, data, **options)
    points = points.clone().requires_grad_()
    exact, some = objective(points), objective.estimate(points, torch.Generator().manual_seed(1))
    return objective, [
        exact.detach(),
        *torch.autograd.grad(exact.sum(), points),
        some.detach(),
        *torch.autograd.grad(some.sum(), points),
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("source", SOURCES)
def test_streams_give_what_data_in_memory_gives(source, dtype, small, monkeypatch, tmp_path):
    points = torch.randn(3, (FEATURES + 1) * CLASSES, generator=torch.Generator().manual_seed(2), dtype=dtype)
    data = SOURCES[source](tmp_path)
    streamed, found = judged(data, points, batch_size=9)
    monkeypatch.undo()
    whole, expected = judged((X, Y), points, batch_size=9)
    assert isinstance(streamed.data, Streamed) and not isinstance(whole.data, Streamed)
    for got, right in zip(found, expected, strict=True):
        torch.testing.assert_close(
            got, right, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=1e-6 if dtype == torch.float32 else 0
        )


def test_running_statistics_come_from_streams_too(small, monkeypatch, tmp_path):
    def losses(data):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(FEATURES, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, CLASSES))
        objective = dss.NetworkObjective(model.double(), cross_entropy, data)
        points = torch.randn(2, objective.space.size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        values = objective(points.requires_grad_())
        return [values.detach(), *torch.autograd.grad(values.sum(), points)]

    found = losses((mapped(tmp_path), Y))
    monkeypatch.undo()
    for got, right in zip(found, losses((X, Y)), strict=True):
        torch.testing.assert_close(got, right, rtol=1e-9, atol=1e-12)


def test_a_loss_of_the_whole_data_reads_all_of_a_stream(small, tmp_path):
    worst = lambda output, target: cross_entropy(output, target, reduction="none").max()  # noqa: E731
    model = nn.Linear(FEATURES, CLASSES)
    objective = dss.NetworkObjective(model, worst, (mapped(tmp_path), Y), whole=True)
    found = objective(nn.utils.parameters_to_vector(model.parameters()).detach()[None]).item()
    assert found == pytest.approx(worst(model(X), Y).item(), rel=1e-6)


@pytest.mark.parametrize("source", SOURCES)
def test_chunks_are_small_and_fresh_and_join_to_all_the_data(source, small, tmp_path):
    samples = as_samples(SOURCES[source](tmp_path))
    chunks = list(samples.chunks(150))
    assert len(samples) == N and max(map(len, chunks)) == 1000 // (4 * FEATURES + 8)
    for chunk in chunks:
        assert type(chunk) is Samples
    assert torch.equal(torch.cat([chunk.inputs[0] for chunk in chunks]), X) and torch.equal(samples.target, Y)
    for chunk in chunks:  # writing to one changes nothing; to a read-only mapping it would end the process
        chunk.inputs[0].zero_(), chunk.target.zero_()
    index = torch.tensor([3, 3, 199, 0] * 33)
    assert torch.equal(samples.take(index).inputs[0], X[index]) and torch.equal(samples.inputs[0], X)


def test_digests_do_not_tell_streams_from_data_in_memory(small, monkeypatch, tmp_path):
    found = {as_samples(SOURCES[name](tmp_path)).digest() for name in SOURCES if name != "private copy of a file"}
    monkeypatch.undo()
    assert found == {as_samples((X, Y)).digest()}


def test_what_was_changed_in_a_private_mapping_is_kept(small, tmp_path):
    private, x = mapped(tmp_path, mode="c"), X.clone()
    private[5], x[5] = 7.0, 7.0
    samples = as_samples((private, Y))
    for _ in range(2):
        assert torch.equal(torch.cat([chunk.inputs[0] for chunk in samples.chunks(50)]), x)


def test_a_proof_of_streamed_data_is_left_to_samples_that_say_why(small):
    objective = dss.NetworkObjective(net(), cross_entropy, (X, Y))
    start = torch.zeros(objective.space.size)
    certificate = dss.certify(objective, dss.Path.straight(start, start + 0.1), threshold=9.0, prove=True)
    assert certificate.passed and not certificate.proven and "chunk by chunk" in certificate.reason


def test_no_room_for_the_data_is_said(small, monkeypatch):
    class Full:
        def write(self, _):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: Full())
    with pytest.raises(dss.InputError, match=r"No space left on device.*TMPDIR"):
        as_samples(DataLoader(TensorDataset(X, Y), batch_size=7))


PEAK = """
import resource, sys
import numpy as np, torch
import dss
from dss.objectives.network import data, pieces, samples

data.WHOLE_BYTES, samples.CHUNK_BYTES, pieces.CHUNK_BYTES = 2**25, 2**24, 2**26
rows, features = 3 * 2**16, 512  # 384 MB
y = torch.arange(rows) % 2
if sys.argv[1] == "batches":
    data = ((torch.full((512, features), i / rows), y[i : i + 512]) for i in range(0, rows, 512))
else:
    data = np.memmap(sys.argv[1], np.float32, "w+", shape=(rows, features)), y
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
model, before = torch.nn.Linear(features, 2), peak()
objective = dss.NetworkObjective(model, torch.nn.functional.cross_entropy, data, batch_size=200)
points = objective.space.flatten(model.state_dict())[None].requires_grad_()
objective(points).sum().backward()
objective.estimate(points, torch.Generator().manual_seed(0)).sum().backward()
assert len(objective.data_digest) == 32
print(peak() - before, objective(points.detach()).item())
"""


@pytest.mark.parametrize("source", ["file", "batches"])
def test_large_data_is_judged_in_the_memory_of_a_few_chunks(source, tmp_path):
    command = [sys.executable, "-c", PEAK, str(tmp_path / "x") if source == "file" else source]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, loss = map(float, run.stdout.split())
    assert peak < 256 and 0.5 < loss < 1
