"""The paper's data sets from files in the formats and under the names in which they are distributed, whole and damaged."""

import gzip
import pickle
import struct
import sys
import warnings
from collections import Counter

import numpy as np
import pytest
import torch

import dss
from experiments import cifar10, image_data, mnist, networks, ptb, text_data
from experiments.image_files import CIFAR10_FILES, MNIST_FILES


def idx(array: np.ndarray) -> bytes:
    """The idx format, as yann.lecun.com describes it."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def mnist_arrays(count=5):
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (count, 28, 28), np.uint8), generator.integers(0, 10, count, np.uint8)] * 2


def write_mnist(folder, arrays, name="{}.gz"):
    folder.mkdir(parents=True, exist_ok=True)
    for file, array in zip(MNIST_FILES, arrays, strict=True):
        path = folder / name.format(file)
        path.write_bytes(gzip.compress(idx(array)) if path.suffix == ".gz" else idx(array))


def dotted(name):
    return name.replace("-idx", ".idx")


@pytest.mark.parametrize("inner", ["", "raw", "MNIST/raw"])
@pytest.mark.parametrize("name", ["{}.gz", "{}"])
def test_mnist_is_read_from_its_own_files_gzipped_or_plain(tmp_path, inner, name):
    arrays = mnist_arrays()
    write_mnist(tmp_path / inner, arrays, name)
    data = image_data.mnist(tmp_path)
    assert data.name == "MNIST" and data.train[0].shape == (5, 1, 28, 28) and data.train[0].dtype == torch.float32
    assert np.allclose(data.judge[0][:, 0] * 255, arrays[2]) and data.judge[1].tolist() == arrays[3].tolist()
    assert data.train[1].dtype == torch.int64


def test_mnist_unpacked_with_dots_in_its_names_is_read_too(tmp_path):
    write_mnist(tmp_path, mnist_arrays(), "{}")
    for name in MNIST_FILES:
        (tmp_path / name).rename(tmp_path / dotted(name))
    assert image_data.mnist(tmp_path).train[0].shape == (5, 1, 28, 28)


def test_fashion_mnist_in_files_of_the_same_names_keeps_its_name(tmp_path):
    labels = np.repeat(np.arange(10, dtype=np.uint8), 2)
    write_mnist(tmp_path, [np.zeros((20, 28, 28), np.uint8), labels] * 2)
    assert image_data.mnist(tmp_path).name == "Fashion-MNIST"


DAMAGE = {
    "cut short": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "other bytes": lambda content: bytes(reversed(content)),
    "a page that says no": lambda content: b"<html>404 Not Found</html>",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["{}.gz", "{}"])
@pytest.mark.parametrize("which", MNIST_FILES[:2])
def test_damaged_files_of_mnist_are_named(tmp_path, damage, name, which):
    write_mnist(tmp_path, mnist_arrays(), name)
    file = tmp_path / name.format(which)
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    with pytest.raises(dss.TaskError, match=rf"{file} is not a readable idx file"):
        image_data.mnist(tmp_path)


def test_images_and_labels_that_do_not_belong_together_are_refused(tmp_path):
    images, labels = mnist_arrays()[:2]
    for wrong in ([images, labels[:4]], [images[:, :27], labels], [images, labels + 9 - labels.min() + 1], [labels, labels]):
        write_mnist(tmp_path, [*wrong, images, labels])
        with pytest.raises(dss.TaskError, match="28x28 images with as many labels"):
            image_data.mnist(tmp_path)


def python2_string(content: bytes) -> bytes:
    """How protocol 2 of Python 2 writes a `str`."""
    return b"U" + bytes([len(content)]) + content if len(content) < 256 else b"T" + struct.pack("<i", len(content)) + content


def python2_number(n: int) -> bytes:
    return b"K" + bytes([n]) if n < 256 else b"J" + struct.pack("<i", n)


def python2_batch(pixels: np.ndarray, labels: list[int]) -> bytes:
    """A batch as cPickle of Python 2 wrote those that are distributed, opcode by opcode (pickletools names them)."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n" b"cnumpy\nndarray\n" + python2_number(0) + b"\x85" + python2_string(b"b") + b"\x87R"
        b"(" + python2_number(1) + python2_number(len(pixels)) + python2_number(pixels.shape[1]) + b"\x86"
        b"cnumpy\ndtype\n" + python2_string(b"u1") + python2_number(0) + python2_number(1) + b"\x87R"
        b"(" + python2_number(3) + python2_string(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff" + python2_number(0) + b"tb"
        b"\x89" + python2_string(pixels.tobytes()) + b"tb"
    )  # fmt: skip
    entries = (
        python2_string(b"batch_label") + python2_string(b"training batch 1 of 5"),
        python2_string(b"labels") + b"](" + b"".join(map(python2_number, labels)) + b"e",
        python2_string(b"data") + array,
        python2_string(b"filenames") + b"](" + b"".join(python2_string(b"leptodactylus_%d.png" % i) for i in labels) + b"e",
    )
    return b"\x80\x02}(" + b"".join(entries) + b"u."


def write_cifar10(folder, write):
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for name in CIFAR10_FILES:
        pixels, labels = generator.integers(0, 256, (4, 3072), np.uint8), [3, 1, 0, 9]
        (folder / name).write_bytes(write(pixels, labels))
    return pixels, labels


WRITERS = {
    "python 2": python2_batch,
    "python 3": lambda pixels, labels: pickle.dumps({b"data": pixels, b"labels": labels}),
}


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-py"])
@pytest.mark.parametrize("writer", WRITERS)
def test_cifar10_is_read_from_its_python_batches_cropped_and_normalised(tmp_path, inner, writer):
    pixels, labels = write_cifar10(tmp_path / inner, WRITERS[writer])
    data = image_data.cifar10(tmp_path)
    assert data.name == "CIFAR-10" and data.train[0].shape == (20, 3, 24, 24) and data.judge[1].tolist() == labels
    assert data.judge[0].mean((1, 2, 3)).abs().max() < 1e-6
    raw = torch.from_numpy(pixels.reshape(-1, 3, 32, 32)).float()[:, :, 4:28, 4:28]
    expected = (raw - raw.mean((1, 2, 3), keepdim=True)) / raw.std((1, 2, 3), keepdim=True)
    assert torch.allclose(data.judge[0], expected, atol=1e-5)


def test_the_pickle_made_here_is_what_python_reads_as_python_twos():
    pixels = np.arange(2 * 3072).reshape(2, 3072).astype(np.uint8)
    with warnings.catch_warnings():  # of the name of one of numpy's modules in those days
        warnings.simplefilter("ignore")
        read = pickle.loads(python2_batch(pixels, [1, 2]), encoding="bytes")
    assert np.array_equal(read[b"data"], pixels) and read[b"labels"] == [1, 2] and len(read[b"filenames"]) == 2


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("call", [(print, "run"), (eval, "1"), (getattr, "x", "upper"), (np.fromfile, "/etc/passwd")])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_batch_that_would_run_code_is_refused(tmp_path, call, protocol, capsys):
    write_cifar10(tmp_path, WRITERS["python 3"])
    (tmp_path / "data_batch_3").write_bytes(pickle.dumps(Evil(*call), protocol))
    with pytest.raises(dss.TaskError, match=r"data_batch_3.*does not belong"):
        image_data.cifar10(tmp_path)
    assert capsys.readouterr().out == ""


def test_a_batch_by_names_that_are_allowed_cannot_reach_others(tmp_path):
    """Dotted names lead from an allowed object to its attributes; a module's name in another spelling is another module."""
    for module, name in (
        ("numpy", "ndarray.tofile"),
        ("numpy", "ndarray.__class__"),
        ("numpy.lib", "dtype"),
        ("numpy.random", "_reconstruct"),
    ):
        write_cifar10(tmp_path, WRITERS["python 3"])
        code = b"\x80\x04" + b"".join(b"\x8c" + bytes([len(word)]) + word.encode() for word in (module, name)) + b"\x93."
        (tmp_path / "test_batch").write_bytes(code)
        with pytest.raises(dss.TaskError, match="does not belong"):
            image_data.cifar10(tmp_path)


WRONG = {
    "another dictionary": pickle.dumps({b"pixels": 1}),
    "no dictionary": pickle.dumps([1, 2]),
    "floats": pickle.dumps({b"data": np.zeros((4, 3072)), b"labels": [0] * 4}),
    "CIFAR-100's labels": pickle.dumps({b"data": np.zeros((4, 3072), np.uint8), b"fine_labels": [0] * 4}),
    "too few labels": pickle.dumps({b"data": np.zeros((4, 3072), np.uint8), b"labels": [0] * 3}),
    "other labels": pickle.dumps({b"data": np.zeros((4, 3072), np.uint8), b"labels": [0, 1, 2, 10]}),
    "none": pickle.dumps({b"data": np.zeros((0, 3072), np.uint8), b"labels": []}),
    "more than memory": pickle.dumps({b"data": Evil(np.ndarray, (10**15,)), b"labels": []}),
    "half of a batch": python2_batch(np.zeros((4, 3072), np.uint8), [0] * 4)[:6000],
    "nothing": b"",
    "a page that says no": b"<html>404 Not Found</html>",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_damaged_and_foreign_batches_are_named(tmp_path, wrong):
    write_cifar10(tmp_path, WRITERS["python 3"])
    (tmp_path / "data_batch_2").write_bytes(WRONG[wrong])
    with pytest.raises(dss.TaskError, match=r"data_batch_2 is not a python batch of CIFAR-10"):
        image_data.cifar10(tmp_path)


def test_a_folder_without_the_files_is_refused_by_name(tmp_path):
    for load in (image_data.mnist, image_data.cifar10, text_data.penn_treebank):
        with pytest.raises(dss.TaskError, match=str(tmp_path)):
            load(tmp_path)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    with pytest.raises(dss.TaskError, match="unpack the archive"):
        image_data.cifar10(tmp_path)


TRAIN = " aer banknote <unk> N years \n once upon a <unk> \n" * 8


@pytest.mark.parametrize("inner", ["", "data", "simple-examples/data"])
def test_penn_treebank_is_read_from_its_texts(tmp_path, inner):
    (tmp_path / inner).mkdir(parents=True, exist_ok=True)
    (tmp_path / inner / "ptb.train.txt").write_text(TRAIN)
    (tmp_path / inner / "ptb.test.txt").write_text(" once unheard N \n" * 12)
    data = text_data.penn_treebank(tmp_path)
    words = [word for line in TRAIN.splitlines() for word in (*line.split(), "<eos>")]
    assert data.name == f"Penn Treebank, {len(set(words))} words"
    inputs, targets = data.train
    assert inputs.shape == targets.shape == ((len(words) - 1) // 20, 20)
    # Equal words have equal numbers, the unknown word the number 0, and targets are the words that follow.
    numbers = dict(zip(words, inputs.flatten().tolist(), strict=False))
    assert [numbers[word] for word in words[: inputs.numel()]] == inputs.flatten().tolist() and numbers["<unk>"] == 0
    assert [numbers[word] for word in words[1 : inputs.numel() + 1]] == targets.flatten().tolist()
    assert data.judge[0].flatten().tolist()[:4] == [numbers["once"], 0, numbers["N"], numbers["<eos>"]]


def test_the_vocabulary_holds_the_commonest_words_and_the_unknown_one_once():
    """Penn Treebank's 10,000 words are `<unk>`, `<eos>` and 9,998 others: none of them may be lost."""
    text = "a a a <unk> <unk> b b c d\n" * 8
    data = text_data.as_data("test", text, text, vocabulary=5)
    assert data.name == "test, 5 words"
    kept = Counter(data.train[0].flatten().tolist())
    assert len(kept) == 5
    assert text_data.as_data("test", text, text, vocabulary=6).name == "test, 6 words"
    assert text_data.as_data("test", text, text, vocabulary=7).name == "test, 6 words"


def test_damaged_texts_are_named(tmp_path):
    (tmp_path / "ptb.train.txt").write_text(TRAIN)
    for content, reason in (
        (b"\xff\xfe\x00a", "ptb.test.txt are needed"),
        (b"", "at least 21 words"),
        (b"once \n", "at least 21 words"),
    ):
        (tmp_path / "ptb.test.txt").write_bytes(content)
        with pytest.raises(dss.TaskError, match=reason):
            text_data.penn_treebank(tmp_path)


def write_texts(folder):
    (folder / "ptb.train.txt").write_text(TRAIN)
    (folder / "ptb.test.txt").write_text(" once unheard N \n" * 12)


SCRIPTS = {
    "mnist": (mnist, image_data.mnist, lambda folder: write_mnist(folder / "MNIST" / "raw", mnist_arrays(), "{}")),
    "cifar10": (cifar10, image_data.cifar10, lambda folder: write_cifar10(folder / "cifar-10-batches-py", python2_batch)),
    "ptb": (ptb, text_data.penn_treebank, write_texts),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_scripts_take_the_papers_files_and_its_thresholds(tmp_path, monkeypatch, name):
    """From the command line to the study: its data, its thresholds, a file of its own, and one evaluation of an untrained end."""
    script, load, write = SCRIPTS[name]
    write(tmp_path)
    asked = []
    monkeypatch.setattr(networks, "run", lambda network, data, out, executor, read: asked.append((network.on(data), data, out)))
    monkeypatch.setattr(networks, "STRINGS", tmp_path / "runs")
    monkeypatch.setattr(sys, "argv", [name, "--small", "--data", str(tmp_path)])
    networks.main(script.STUDY, script.SMALL, script.QUICK, load, lambda: None, str(tmp_path / f"{name}.py"))
    ((network, data, out),) = asked
    assert network.thresholds == script.SMALL.thresholds and data.name.split(",")[0] == script.STUDY.paper_data
    assert out == tmp_path / f"{name}-small-{script.STUDY.paper_data.lower().replace(' ', '-')}.json"
    (x, _), loss = data.train, dss.NetworkObjective(network.model(), network.loss, data.train)
    point = loss.space.flatten(network.model().state_dict())
    assert len(x) > 0 and loss(point[None]).isfinite().all()
