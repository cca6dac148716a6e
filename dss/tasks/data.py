"""Data of the built-in tasks."""

import gzip
import os
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dss.base.errors import TaskError

Pair = tuple[Tensor, Tensor]

DATA_VARIABLE = "DSS_DATA"
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts it
FASHION_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


@lru_cache(maxsize=1)
def digits() -> tuple[Pair, Pair]:
    """scikit-learn's 1,797 digits of 8x8 pixels in [0, 1], split into 1,200 and 597, shuffled with a fixed seed."""
    images, labels = _digits_at_hand() or _load_digits()
    order = np.random.default_rng(0).permutation(len(labels))
    x = torch.tensor(images[order] / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    y = torch.tensor(labels[order])
    return (x[:1200], y[:1200]), (x[1200:], y[1200:])


def _digits_at_hand() -> tuple[np.ndarray, np.ndarray] | None:
    """Images (n, 64) and classes (n,) from the table that scikit-learn ships; None where it lies elsewhere.

    `load_digits` reads the same table, after an import that takes longer than all else that a command has to load.
    """
    spec = find_spec("sklearn")
    for folder in (spec and spec.submodule_search_locations) or ():
        table = Path(folder, "datasets", "data", "digits.csv.gz")
        if table.is_file():
            rows = np.loadtxt(table, delimiter=",")
            return rows[:, :-1], rows[:, -1].astype(np.int64)
    return None


def _load_digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    return data.data, data.target


def polynomial(coefficients: tuple[float, ...]) -> tuple[Pair, Pair]:
    """1,000 training and 1,000 test points of a polynomial on [0, 1], highest power first."""

    def draw(seed: int) -> Pair:
        x = torch.rand(1000, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        y = torch.zeros_like(x)
        for coefficient in coefficients:
            y = y * x + coefficient
        return x.float(), y.float()

    return draw(0), draw(1)


@lru_cache(maxsize=1)
def fashion() -> tuple[Pair, Pair]:
    """Fashion-MNIST, 60,000 and 10,000 images of 28x28 pixels in [0, 1].

    Looked for in the folder that the variable DSS_DATA names, then where Debian's `dataset-fashion-mnist` lies, then
    fetched from OpenML.

    Raises:
        TaskError: it is nowhere to be had, or a file is not what its name says.
    """
    if (folder := fashion_folder()) is not None:
        parts = [_read_idx(folder / name) for name in FASHION_FILES]
        return _images(parts[0], parts[1]), _images(parts[2], parts[3])
    x, y = _fetch_openml()
    return _images(x[:60000], y[:60000]), _images(x[60000:], y[60000:])


def fashion_folder() -> Path | None:
    """The folder on this machine that holds all files of Fashion-MNIST; None if none does."""
    named = [Path(os.environ[DATA_VARIABLE])] if DATA_VARIABLE in os.environ else []
    return next((f for f in (*named, FASHION_FOLDER) if all((f / name).is_file() for name in FASHION_FILES)), None)


def _images(pixels: np.ndarray, labels: np.ndarray) -> Pair:
    """Images (n, 1, 28, 28) in [0, 1] and classes (n,)."""
    if pixels.shape[1:] != (28, 28) or len(pixels) != len(labels) or labels.max() > 9:
        raise TaskError(f"28x28 images with labels 0 to 9 are needed, got {pixels.shape} and {labels.shape}")
    return torch.from_numpy(pixels / np.float32(255))[:, None], torch.from_numpy(labels.astype(np.int64))


def _read_idx(path: Path) -> np.ndarray:
    """An array in the idx format of the MNIST files, gzipped: two zero bytes, a type, the rank, big-endian sizes."""
    try:
        with gzip.open(path) as file:
            content = file.read()
        rank = content[3]
        shape = np.frombuffer(content, ">u4", count=rank, offset=4)
        if content[:3] != b"\x00\x00\x08":
            raise ValueError("no unsigned bytes in the idx format")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)
    except (OSError, EOFError, IndexError, ValueError) as error:
        raise TaskError(f"{path} is not a readable idx file: {error}") from error


def _fetch_openml() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import fetch_openml

    try:
        data: Any = fetch_openml("Fashion-MNIST", version=1, as_frame=False, parser="liac-arff")
    except Exception as error:  # no network, a changed service, a damaged cache: scikit-learn raises many kinds
        raise TaskError(
            f"Fashion-MNIST is not at hand and could not be fetched ({type(error).__name__}); install Debian's "
            f"dataset-fashion-mnist, or put its four idx .gz files into a folder and name it in {DATA_VARIABLE}"
        ) from error
    return data.data.reshape(-1, 28, 28).astype(np.uint8), data.target.astype(np.int64)
