"""Images for the experiments: the paper's data where it is at hand, else other real data under its own name."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from dss import TaskError, load_task
from experiments.image_files import read_cifar10, read_mnist
from experiments.networks import Data, Pair

CROP = 24
PHOTOS = ("astronaut", "chelsea", "coffee", "immunohistochemistry", "hubble_deep_field", "retina", "rocket", "stereo_motorcycle")


def mnist(folder: Path | None) -> Data:
    """MNIST from its four idx files in or below `folder` (`read_mnist`), else from OpenML, else Fashion-MNIST; 55,000 and 10,000 images.

    Fashion-MNIST comes in files of the same names; its classes are equally many, MNIST's are not, and so it is told apart.

    Raises:
        TaskError: none of them is to be had, or a file is damaged.
    """
    if folder is not None:
        (x, y), (x_test, y_test) = read_mnist(folder)
        name = "Fashion-MNIST" if len(y.unique(return_counts=True)[1].unique()) == 1 else "MNIST"
        return Data(name, (x[:55_000, None] / 255, y[:55_000].long()), (x_test[:, None] / 255, y_test.long()))
    fetched = _fetch("mnist_784")
    if fetched is not None:
        x, y = fetched[0].reshape(-1, 1, 28, 28), fetched[1]
        return Data("MNIST", (x[:55_000], y[:55_000]), (x[60_000:], y[60_000:]))
    fashion = load_task("fashion")
    train, test = fashion.train, fashion.judge
    return Data("Fashion-MNIST", _first(train, 55_000), test)


def cifar10(folder: Path | None) -> Data:
    """CIFAR-10 from its python batches in or below `folder` (`read_cifar10`), else from OpenML, else patches of photos; centre crops of 24x24.

    Raises:
        TaskError: a file is missing or damaged.
    """
    if folder is not None:
        return _cropped("CIFAR-10", *read_cifar10(folder))
    fetched = _fetch("CIFAR_10")
    if fetched is not None:
        x, y = fetched[0].reshape(-1, 3, 32, 32), fetched[1]
        return _cropped("CIFAR-10", (x[:50_000], y[:50_000]), (x[50_000:], y[50_000:]))
    return photo_patches(20_000, 2_560)


def photo_patches(train: int, judge: int, seed: int = 0) -> Data:
    """24x24 patches of the ten photos that scikit-image and scikit-learn ship; a patch's class is its photo.

    Training patches come from the upper 80 % of a photo, judging ones from the rest.

    Raises:
        TaskError: scikit-image, or Pillow, which reads the photos, is not installed.
    """
    photos, generator = _photos(), torch.Generator().manual_seed(seed)
    halves = [_patches(photos, count, part, generator) for count, part in ((train, (0.0, 0.8)), (judge, (0.8, 1.0)))]
    mean, deviation = halves[0][0].mean(), halves[0][0].std()
    return Data("photo patches", *(((x - mean) / deviation, y) for x, y in halves))


def small_images(train: int, judge: int, *, channels: int = 1, size: int = 28) -> Data:
    """scikit-learn's digits, enlarged, equal in all channels: for quick runs, always at hand."""
    digits = load_task("digits")
    parts = [
        (interpolate(x, (size, size), mode="bilinear").expand(-1, channels, -1, -1), y) for x, y in (digits.train, digits.judge)
    ]
    return Data("digits, enlarged", _first(parts[0], train), _first(parts[1], judge))


def _photos() -> list[Tensor]:
    """Ten photos `(3, height, width)` in [0, 1]."""
    try:
        from skimage import data
        from sklearn.datasets import load_sample_images

        shipped = [getattr(data, name)() for name in PHOTOS]
        arrays = [image[0] if isinstance(image, tuple) else image for image in shipped] + load_sample_images().images
    except ImportError as error:
        raise TaskError(
            "CIFAR-10 is not at hand, and photos need two packages: give --data FOLDER, or pip install scikit-image pillow"
        ) from error
    return [torch.from_numpy(array / 255.0).float().permute(2, 0, 1) for array in arrays]


def _patches(photos: list[Tensor], count: int, part: tuple[float, float], generator: torch.Generator) -> Pair:
    classes = torch.randint(len(photos), (count,), generator=generator)
    images = []
    for label in classes.tolist():
        _, height, width = photos[label].shape
        top = _between(int(part[0] * height), int(part[1] * height) - CROP, generator)
        left = _between(0, width - CROP, generator)
        images.append(photos[label][:, top : top + CROP, left : left + CROP])
    return torch.stack(images), classes


def _between(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))


def _cropped(name: str, train: Pair, test: Pair) -> Data:
    """Centre crops, each image normalised to mean 0 and deviation 1, as the paper's script did."""

    def prepared(pair: Pair) -> Pair:
        x = pair[0][:, :, 4 : 4 + CROP, 4 : 4 + CROP]
        return (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True).clamp_min(1 / x[0].numel() ** 0.5), pair[1]

    return Data(name, prepared(train), prepared(_first(test, 2_560)))


def _fetch(name: str) -> tuple[Tensor, Tensor] | None:
    """A data set of OpenML as pixels `(n, d)` in [0, 1] and labels, or None without a network."""
    from sklearn.datasets import fetch_openml

    try:
        found = fetch_openml(name, version=1, as_frame=False, parser="liac-arff")
    except OSError:
        return None
    pixels = torch.from_numpy(found.data.astype(np.float32) / 255)
    return pixels, torch.from_numpy(found.target.astype(np.int64))


def _first(pair: Pair, count: int) -> Pair:
    return pair[0][:count], pair[1][:count]
