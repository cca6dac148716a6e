"""The files of MNIST and CIFAR-10 as they are distributed; no code in them is run."""

import gzip
import pickle
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dss import TaskError
from experiments.networks import Pair

MNIST_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CIFAR10_FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
# Where they lie in the folder that is given: itself, or as torchvision and the archive make it.
MNIST_FOLDERS = ("", "raw", "MNIST/raw", "FashionMNIST/raw")
CIFAR10_FOLDERS = ("", "cifar-10-batches-py")
PIXELS = 3 * 32 * 32
# What a pickled array is made of, and where numpy has had it.
ARRAY_MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
ARRAY_NAMES = {"_reconstruct": np.empty(0).__reduce__()[0], "ndarray": np.ndarray, "dtype": np.dtype}


def read_mnist(folder: Path) -> tuple[Pair, Pair]:
    """Images `(n, 28, 28)` and labels `(n,)` of training and test, bytes: idx files, gzipped or plain.

    Raises:
        TaskError: a file is missing or damaged, or images and labels do not belong together.
    """
    x, y, x_test, y_test = (_idx(_found(folder, MNIST_FOLDERS, _spellings(name))) for name in MNIST_FILES)
    for images, labels in ((x, y), (x_test, y_test)):
        if images.shape[1:] != (28, 28) or labels.ndim != 1 or len(images) != len(labels) or not len(labels) or labels.max() > 9:
            shapes = f"{tuple(images.shape)} and {tuple(labels.shape)}"
            raise TaskError(f"{folder}: 28x28 images with as many labels from 0 to 9 are needed, got arrays of shapes {shapes}")
    return (x, y), (x_test, y_test)


def read_cifar10(folder: Path) -> tuple[Pair, Pair]:
    """Images `(n, 3, 32, 32)` in [0, 1] and labels `(n,)` of training and test: the python version's six batches.

    Raises:
        TaskError: a file is missing or damaged, or would run code.
    """
    *train, test = (_batch(_found(folder, CIFAR10_FOLDERS, (name,))) for name in CIFAR10_FILES)
    return (torch.cat([x for x, _ in train]), torch.cat([y for _, y in train])), test


def _spellings(name: str) -> tuple[str, ...]:
    """A file of MNIST gzipped, plain, and as some programs unpack it."""
    return f"{name}.gz", name, name.replace("-idx", ".idx")


def _found(folder: Path, folders: tuple[str, ...], names: tuple[str, ...]) -> Path:
    """The first of some files that is there.

    Raises:
        TaskError: none is.
    """
    files = [folder / inner / name for inner in folders for name in names]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        packed = "; unpack the archive in it first" if any(folder.glob("*.tar*")) else ""
        inside = ", ".join(filter(None, folders))
        raise TaskError(f"{' or '.join(names)} is needed in {folder} (or in its {inside}), and is not there{packed}")
    return found


def _idx(path: Path) -> Tensor:
    """An array of bytes in the idx format: two zero bytes, a type, the rank, big-endian sizes, the content.

    Raises:
        TaskError: it is none, or does not hold what its sizes say.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if content[:3] != b"\x00\x00\x08":
            raise ValueError(f"it begins with {content[:4].hex()}, not with 000008")
        shape = np.frombuffer(content, ">u4", count=content[3], offset=4)
        return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape).copy())
    except Exception as error:  # zlib, gzip and numpy raise many kinds
        raise TaskError(f"{path} is not a readable idx file of MNIST: {error}; fetch it again") from error


def _batch(path: Path) -> Pair:
    """One of CIFAR-10's batches, which Python 2 has pickled: a dictionary with a matrix of bytes and a list of labels.

    Raises:
        TaskError: it is none, or would run code.
    """
    try:
        with path.open("rb") as file:
            content = _PlainArrays(file, encoding="bytes").load()
        pixels, labels = content[b"data"], torch.tensor(content[b"labels"])
        if pixels.dtype != np.uint8 or pixels.shape != (len(labels), PIXELS) or labels.dtype != torch.int64 or labels.ndim != 1:
            raise ValueError(
                f"{pixels.dtype} {pixels.shape} and {len(labels)} labels, where bytes (n, {PIXELS}) and n whole numbers belong"
            )
        if not len(labels) or labels.min() < 0 or labels.max() > 9:
            raise ValueError("its labels are not 0 to 9")
    except Exception as error:  # what damage makes of a pickle may raise anything
        raise TaskError(f"{path} is not a python batch of CIFAR-10: {type(error).__name__}: {error}") from error
    return torch.from_numpy(pixels.astype(np.float32) / 255).view(-1, 3, 32, 32), labels


class _PlainArrays(pickle.Unpickler):
    """Unpickles numpy arrays and nothing that could run code: names are looked up here, and nothing is imported."""

    def find_class(self, module: str, name: str) -> object:
        if module in ARRAY_MODULES and name in ARRAY_NAMES:
            return ARRAY_NAMES[name]
        raise pickle.UnpicklingError(f"{module}.{name} does not belong into a batch of images")
