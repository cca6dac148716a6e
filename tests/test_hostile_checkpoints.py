"""Damaged, hostile and foreign files: one clear sentence each, and nothing of them is run."""

import argparse
import collections
import gzip
import os
import pathlib
import pickle
import socket
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import dss

ROOT = Path(__file__).parent.parent


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def flat(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def read(file, model, **options):
    return dss.load_point(file, dss.ParameterSpace.of(model), **options)


def refused(file, model, message):
    with pytest.raises(dss.CheckpointError, match=message) as caught:
        read(file, model)
    text = str(caught.value)
    assert len(text) < 2500 and text.isprintable()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>not found</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "git lfs pull"),
        (gzip.compress(b"weights"), "gzip"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"GGUF\x03\x00\x00\x00", "GGUF"),
        (b"epoch,loss\n1,2\n", "is text"),
        (b"", "is empty"),
        (b"PK\x03\x04", "cut short"),
        (b"\x80\x02}q", "cut short"),
    ],
)
def test_what_is_no_checkpoint_is_told_by_its_first_bytes(tmp_path, model, content, message):
    for name in ("a.pt", "a.bin"):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, model, message)


def test_folders_pipes_sockets_and_names_that_no_file_has_are_told(tmp_path, model):
    refused(tmp_path, model, "folder without weights")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", model, "no ordinary file")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(tmp_path / "s"))
        refused(tmp_path / "s", model, "no ordinary file")
    refused("x" * 5000, model, "there is no file")
    refused("a\0b", model, "there is no file")


def test_kinds_are_told_by_bytes_and_not_by_endings(tmp_path, model):
    save_file(dict(model.named_parameters()), tmp_path / "a.bin")
    torch.save(model.state_dict(), tmp_path / "b.safetensors")
    torch.save(model.state_dict(), tmp_path / "c.xyz", _use_new_zipfile_serialization=False)
    for name in ("a.bin", "b.safetensors", "c.xyz"):
        assert torch.equal(read(tmp_path / name, model), flat(model))


def test_a_flipped_bit_in_a_weight_is_seen_by_its_checksum(tmp_path, model):
    torch.save(model.state_dict(), tmp_path / "a.pt")
    content = bytearray((tmp_path / "a.pt").read_bytes())
    content[content.index(model[0].weight.detach().numpy().tobytes()) + 5] ^= 1
    (tmp_path / "a.pt").write_bytes(content)
    refused(tmp_path / "a.pt", model, "checksum of .*data/0 is wrong")


def rezip(file, method=zipfile.ZIP_STORED, more=()):
    with zipfile.ZipFile(file) as archive:
        members = [(m.filename, archive.read(m)) for m in archive.infolist()]
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, value in (*members, *more):
            archive.writestr(name, value)


def test_compressed_members_are_refused_before_they_are_unpacked(tmp_path, model):
    torch.save(model.state_dict(), tmp_path / "a.pt")
    rezip(tmp_path / "a.pt", zipfile.ZIP_DEFLATED, [("a/data/9", bytes(10**7))])
    assert (tmp_path / "a.pt").stat().st_size < 10**5
    refused(tmp_path / "a.pt", model, "compressed member")


def test_zips_of_other_programs_are_told(tmp_path, model):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("word/document.xml", "text")
    refused(tmp_path / "a.pt", model, "no data.pkl")
    with zipfile.ZipFile(tmp_path / "b.pt", "w") as archive:
        archive.writestr("b/constants.pkl", b"")  # what TorchScript puts beside data.pkl
    refused(tmp_path / "b.pt", model, "TorchScript")


class Options:
    """A class that only this test knows."""

    def __init__(self):
        self.rate = 0.1


def test_a_refused_pickle_names_what_it_met_and_the_way_on(tmp_path, model):
    torch.save({"model": model.state_dict(), "options": Options()}, tmp_path / "a.pt")
    name = f"{Options.__module__}.Options"
    refused(tmp_path / "a.pt", model, f"holds {name}, which could run code.*--allow {name}")
    assert torch.equal(read(tmp_path / "a.pt", model, allow=[name]), flat(model))
    with pytest.raises(dss.InputError, match=r"full name of a class such as argparse\.Namespace"):
        read(tmp_path / "a.pt", model, allow=["Options"])


@pytest.mark.parametrize(
    "data",
    [
        argparse.Namespace(rate=0.1, folder=pathlib.Path("x")),
        np.float64(3),
        np.arange(6).reshape(2, 3),
        np.random.RandomState(0).get_state(),
        pathlib.Path("runs/a"),
        collections.defaultdict(dict, a={}),
        {1, 2},
        torch.Size([1]),
    ],
)
@pytest.mark.parametrize("legacy", [True, False])
def test_harmless_data_beside_the_weights_is_passed_over(tmp_path, model, data, legacy):
    torch.save({"model": model.state_dict(), "beside": data}, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    assert torch.equal(read(tmp_path / "a.pt", model), flat(model))


@pytest.mark.parametrize(
    "name", ["os.system", "builtins.eval", "subprocess.Popen", "torch.load", "builtins.bytearray", "torch.hub.load"]
)
@pytest.mark.parametrize("zipped", [False, True])
def test_code_is_never_run_even_where_it_is_allowed(tmp_path, model, monkeypatch, name, zipped):
    monkeypatch.chdir(tmp_path)
    module, _, attribute = name.rpartition(".")
    argument = pickle.dumps(("open('ran', 'w')" if "eval" in name else "touch ran",), protocol=2)[2:-1]
    evil = b"\x80\x02" + f"c{module}\n{attribute}\n".encode() + argument + b"R."
    torch.save(model.state_dict(), "a.pt")
    if zipped:
        with zipfile.ZipFile("a.pt") as archive:
            members = [(m.filename, evil if m.filename.endswith("data.pkl") else archive.read(m)) for m in archive.infolist()]
        with zipfile.ZipFile("a.pt", "w") as archive:
            for member, value in members:
                archive.writestr(member, value)
    else:
        Path("a.pt").write_bytes(evil)
    refused("a.pt", model, f"holds {name}, which could run code")
    with pytest.raises(dss.CheckpointError):
        read("a.pt", model, allow=[name])
    assert not Path("ran").exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda w: w.to_sparse(), "0.weight is a sparse tensor"),
        (lambda w: w.to_sparse_csr(), "0.weight is a sparse tensor"),
        (lambda w: w.to("meta"), "0.weight is a meta tensor"),
        (lambda w: torch.nested.nested_tensor([w, w]), "0.weight is a nested tensor"),
        (lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8), "0.weight is a quantized tensor"),
        (lambda w: w.to(torch.complex64), "not real numbers: 0.weight is torch.complex64"),
        (lambda w: w[:1, :1].expand(4, 3), None),
        (lambda w: torch.ones(1).expand(10**12), "claims more bytes than the file has"),
    ],
)
def test_tensors_that_are_no_plain_numbers_are_named(tmp_path, model, make, message):
    torch.save({**model.state_dict(), "0.weight": make(model[0].weight.detach())}, tmp_path / "a.pt")
    if message is None:
        assert len(read(tmp_path / "a.pt", model)) == sum(p.numel() for p in model.parameters())
    else:
        refused(tmp_path / "a.pt", model, message)


def test_messages_are_bounded_and_escape_what_a_terminal_would_obey(tmp_path, model):
    torch.save({f"\x1b[31m{i}{'x' * 10000}": torch.ones(1) for i in range(300)}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", model, r"\\x1b\[31m0.* and 294 more")


@pytest.mark.parametrize(
    "header",
    [
        b'{"a": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4000000000000]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}',
        b'{"a": {"dtype": "Q9", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": 3}',
        b"[" * 5000,
    ],
)
@pytest.mark.parametrize("length", [None, 0, 2**40, 2**63])
def test_headers_of_safetensors_that_lie_are_refused(tmp_path, model, header, length):
    head = struct.pack("<Q", len(header) if length is None else length)
    (tmp_path / "a.safetensors").write_bytes(head + header + b"1234")
    refused(tmp_path / "a.safetensors", model, "a.safetensors")


def test_no_mutated_file_is_believed_run_or_crashes():
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks.faults.checkpoints import run
    finally:
        sys.path.remove(str(ROOT))
    found = run(60, 17)
    assert found["failures"] == [] and found["files"] == 60


def test_the_campaign_sees_what_it_looks_for(tmp_path):
    """A reader that believes everything is found out."""
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks.faults import checkpoints
    finally:
        sys.path.remove(str(ROOT))
    file = tmp_path / "a.pt"
    file.write_bytes(checkpoints.call("os.system", ("touch code-was-run",)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints.dss, "load_point", lambda file, space: pickle.loads(Path(file).read_bytes()))
        checkpoints._watch()
        wrong, _, read = checkpoints._tried(file, None, None)
    assert read and [kind for kind, _ in wrong] == ["code run"]
