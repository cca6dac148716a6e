"""Whole points are never copied in float64, gathered or stacked: results are those of plain arithmetic on matrices."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

import dss
from dss.base import chunks, memory
from dss.base import path as paths
from dss.base.digest import digest
from dss.base.mapped import is_mapped
from dss.base.stacked import save_stacked
from dss.certificates import certificate
from dss.finders import descent
from dss.geodesic import shortening
from dss.objectives.objective import Objective
from dss.objectives.wrappers import Counted, Recalled


class Squares(Objective):
    """Counts its calls by points."""

    def __init__(self):
        self.seen = 0

    def __call__(self, points):
        self.seen += len(points)
        return points.double().square().sum(1)


@pytest.fixture
def beads():
    return torch.randn(5, 1003, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("mask", [False, True])
def test_lengths_in_pieces_are_those_of_whole_points(beads, mask, monkeypatch):
    monkeypatch.setattr(chunks, "COORDINATES", 64)
    coordinates = torch.arange(1003) % 3 > 0 if mask else None
    kept = beads.double() if coordinates is None else beads.double()[:, coordinates]
    expected = kept.diff(dim=0).norm(dim=1)
    found = dss.Path(beads).segment_lengths(coordinates)
    assert found.dtype is torch.float64 and torch.allclose(found, expected, rtol=1e-14)
    straight = (kept[-1] - kept[0]).norm()
    assert dss.Path(beads).normalized_length_over(coordinates) == pytest.approx((expected.sum() / straight).item(), rel=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_points_written_one_by_one_are_those_gathered_bit_for_bit(beads, dtype, monkeypatch):
    path = dss.Path(beads.to(dtype))
    segments, t = torch.tensor([0, 3, 1, 3, 2]), torch.tensor([0.0, 0.3, 1 / 3, 1.0, 0.77], dtype=torch.float64)
    gathered = path.points(segments, t)
    monkeypatch.setattr(paths, "LARGE_ROW", 0)
    found = path.points(segments, t)
    assert found.equal(gathered) and found[0].equal(path.beads[0]) and found[3].equal(path.beads[4])


def test_no_places_are_no_points(beads, monkeypatch):
    path = dss.Path(beads)
    none = torch.zeros(0, dtype=torch.long)
    for least in (paths.LARGE_ROW, 0):
        monkeypatch.setattr(paths, "LARGE_ROW", least)
        assert path.points(none, none.double()).shape == (0, beads.shape[1])
        assert path.insert(none, path.points(none, none.double())).digests == path.digests


def test_a_longer_path_shares_its_beads_and_their_digests(beads, monkeypatch):
    path, read = dss.Path(beads), []
    monkeypatch.setattr(paths, "digest", lambda bead: read.append(1) or digest(bead))
    assert path.digests == tuple(map(digest, beads))
    longer = path.insert(torch.tensor([1, 3]), beads[:2] + 1).replace(torch.tensor([-1]), beads[:1] - 1)
    places = [0, 1, 3, 4]
    assert [longer.rows[i].data_ptr() for i in places] == [row.data_ptr() for row in path.rows[:4]]
    assert longer.digests == tuple(map(digest, longer.beads)) and len(read) == 5 + 3
    assert longer.beads.equal(torch.stack([*beads[:2], beads[0] + 1, beads[2], beads[3], beads[1] + 1, beads[0] - 1]))


def test_a_bead_that_was_written_to_gets_another_digest(beads):
    path = dss.Path(beads)
    before = path.digests
    beads[2, 0] += 1
    assert path.digests[2] == digest(beads[2]) != before[2]


def test_a_certificate_recalls_places_of_a_path_whose_other_beads_changed(beads):
    inner = Squares()
    counted = Counted(inner, dss.Tally())
    path, segments, t = dss.Path(beads), torch.tensor([0, 1, 1, 3]), torch.tensor([0.5, 0.0, 0.25, 1.0], dtype=torch.float64)
    expected = inner(path.points(segments, t))
    counted.along(path, segments, t)
    inner.seen = 0
    longer = path.insert(torch.tensor([2]), beads[:1] + 1)
    segments[-1] += 1
    found = Recalled(counted).along(longer, segments, t)
    assert torch.equal(found, expected) and inner.seen == 0
    assert Recalled(counted)(path.beads[[1, 4]]).equal(expected[[1, 3]]) and inner.seen == 0
    more = Recalled(counted).along(longer, torch.tensor([0, 2]), torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert inner.seen == 1 and more[1].item() == pytest.approx(
        inner(longer.points(torch.tensor([2]), torch.tensor([0.5]))).item()
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_stacked_entries_are_the_file_that_the_library_writes(beads, dtype, tmp_path):
    beads = beads.to(dtype)
    named = {"b.weight": beads[:, :100].view(5, 20, 5), "a": beads[:, 100:101].reshape(5), "ü": beads[:, 101:].T.reshape(5, -1)}
    save_stacked({name: list(value) for name, value in named.items()}, tmp_path / "ours")
    save_file({name: value.contiguous() for name, value in named.items()}, tmp_path / "theirs")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert all(value.equal(named[name]) for name, value in load_file(tmp_path / "ours").items())


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_points_trained_in_turn_are_those_trained_together_bit_for_bit(optimizer, monkeypatch):
    draw = torch.Generator().manual_seed(0)
    x, y = torch.rand(40, 3, generator=draw), torch.randint(2, (40,), generator=draw)
    train = dss.NetworkObjective(torch.nn.Linear(3, 2), torch.nn.functional.cross_entropy, (x, y), batch_size=8)
    judge = dss.NetworkObjective(torch.nn.Linear(3, 2), torch.nn.functional.cross_entropy, (x, y), rows="loop")
    points, options = torch.randn(4, 8, generator=draw), dss.Descent(lambda p: optimizer(p, lr=0.05), max_steps=15, check_every=2)
    monkeypatch.setattr(descent, "LARGE_POINT", 0)

    def ended():
        generator = torch.Generator().manual_seed(3)
        found = dss.descend(train, judge, points, 0.75, options=options, generator=generator)
        return found.points, found.losses, found.reached, generator.get_state(), torch.tensor(found.gradient_steps)

    together = ended()
    monkeypatch.setattr(descent, "HUGE_POINT", 0)
    assert len({*together[2].tolist()}) == 2, "some must arrive, and some not"
    assert all(map(torch.equal, together, ended()))


def test_beads_on_disk_give_the_same_path_and_lie_in_mapped_files(tmp_path):
    def found(**more):
        start, end = (torch.tensor(minimum) for minimum in dss.MuellerBrown.minima[:2])
        return dss.connect(dss.MuellerBrown(), start, end, threshold=-30.0, seed=3, finder=dss.GreedyString(), **more)

    plain, stored = found(), found(beads_on_disk=tmp_path)
    assert plain.connected and plain.path.intermediate_beads > 0
    assert stored.path.beads.equal(plain.path.beads) and stored.summary["max_loss"] == plain.summary["max_loss"]
    assert all(map(is_mapped, stored.path.rows)) and not any(map(is_mapped, plain.path.rows))
    assert {file.stem for file in tmp_path.iterdir()} == set(plain.path.digests)


def test_beads_that_were_stored_are_stored_in_every_path_that_shares_them(beads, tmp_path):
    path = dss.Path(beads.clone())
    longer = path.insert(torch.tensor([0]), beads[:1] + 1)
    path.store(tmp_path)
    assert [is_mapped(row) for row in longer.rows] == [True, False, True, True, True, True]
    assert longer.digests == tuple(map(digest, longer.beads)) and path.beads.equal(beads)


class Hungry(Squares):
    """Fails as torch does when there is no memory, above a number of points."""

    def __init__(self, most, error):
        super().__init__()
        self.most, self.error = most, error

    def __call__(self, points):
        if self.seen >= self.most:
            raise self.error
        return super().__call__(points)


ERRORS = [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes")]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("command", ["connect", "certify"])
def test_memory_that_runs_out_is_told_with_what_took_it(beads, error, command):
    ask = {
        "connect": lambda: dss.connect(Hungry(3, error), beads[0], beads[1], threshold=1e9),
        "certify": lambda: dss.certify(Hungry(0, error), dss.Path(beads[:2]), threshold=1e9),
    }
    with pytest.raises(MemoryError, match="2 beads of 1,003 parameters, judged on 1 samples; fewer beads") as raised:
        ask[command]()
    assert raised.value.__cause__ is error


def test_other_failures_keep_their_own_words(beads):
    with pytest.raises(RuntimeError, match="not a matter of memory"):
        dss.connect(Hungry(3, RuntimeError("not a matter of memory")), beads[0], beads[1], threshold=1e9)


def test_chunks_shrink_only_where_the_limit_is_small(monkeypatch):
    monkeypatch.setattr(memory, "limit", lambda: 64e9)
    assert memory.fitting(2**28) == 2**28
    monkeypatch.setattr(memory, "limit", lambda: 2**28)
    assert memory.fitting(2**28) == 2**28 // memory.SHARE


def test_the_limit_of_a_process_is_seen():
    code = "import resource; resource.setrlimit(resource.RLIMIT_AS, (7 * 10**9,) * 2); from dss.base.memory import limit; print(limit())"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 0 < float(shown) <= 7 * 10**9


def test_proofs_and_shortening_that_do_not_fit_say_so_before_they_start(monkeypatch):
    path, bowl = dss.Path(torch.eye(2)), dss.Quadratic((1.0, 1.0))
    monkeypatch.setattr(certificate, "limit", lambda: 50.0)
    found = dss.certify(bowl, path, threshold=2.0, prove=True)
    assert found.passed and not found.proven and "no proof: it would take about 0 MB" in found.reason
    monkeypatch.setattr(shortening, "limit", lambda: 50.0)
    with pytest.raises(MemoryError, match="shortening a path of 2 parameters takes about"):
        dss.shorten(bowl, path, threshold=2.0)
