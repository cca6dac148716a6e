"""Text for the experiments: Penn Treebank where it is at hand, else the King James Bible; words of a fixed vocabulary."""

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from dss import TaskError
from experiments.networks import Data, Pair

VOCABULARY, LENGTH = 10_000, 20
UNKNOWN, END = "<unk>", "<eos>"
FOLDERS = ("", "data", "simple-examples/data")


def penn_treebank(folder: Path | None) -> Data:
    """Penn Treebank's `ptb.train.txt` and `ptb.test.txt` in `folder`, or where their archive puts them below it, else the Bible from Debian's `bible-kjv`.

    Raises:
        TaskError: neither is to be had.
    """
    if folder is not None:
        return as_data("Penn Treebank", *(_penn_treebank_text(folder, part) for part in ("train", "test")))
    program = shutil.which("bible")
    if program is None:
        raise TaskError(
            "no text is at hand; give --data FOLDER with ptb.train.txt and ptb.test.txt, or install Debian's bible-kjv"
        )
    text = subprocess.run(
        [program, "-f", "Gen1:1-Rev22:21"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    ).stdout
    verses = verses_of(text)
    # Every tenth verse is for the test: one book is unlike another.
    train, test = ("\n".join(v for i, v in enumerate(verses) if (i % 10 == 9) is held) for held in (False, True))
    return as_data("King James Bible", train, test)


def _penn_treebank_text(folder: Path, part: str) -> str:
    files = [folder / inner / f"ptb.{part}.txt" for inner in FOLDERS]
    try:
        return next((file for file in files if file.is_file()), files[0]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"ptb.train.txt and ptb.test.txt are needed in {folder}, as text: {error}") from error


def verses_of(text: str) -> list[str]:
    """The verses in lower case, without their numbers (the first word of a line) and without punctuation."""
    return [" ".join(re.findall(r"[a-z]+(?:['-][a-z]+)*", line.lower().partition(" ")[2])) for line in text.splitlines()]


def described_data_sets(vocabulary: int = 200, sequences: int = 40) -> Data:
    """The descriptions that scikit-learn ships with its data sets, a few thousand words: for quick runs, always at hand."""
    from sklearn import datasets

    loaders = (datasets.load_iris, datasets.load_wine, datasets.load_diabetes, datasets.load_breast_cancer)
    lines = "\n".join(load().DESCR for load in loaders).lower().splitlines()
    train, test = ("\n".join(line for i, line in enumerate(lines) if (i % 10 == 9) is held) for held in (False, True))
    data = as_data("scikit-learn's descriptions", train, test, vocabulary=vocabulary)
    return Data(data.name, tuple(t[:sequences] for t in data.train), tuple(t[:sequences] for t in data.judge))


def as_data(name: str, train: str, test: str, *, vocabulary: int = VOCABULARY) -> Data:
    """Lines of words as sequences of word numbers and of the words that follow; rare words become `<unk>`."""
    words = [_words(text) for text in (train, test)]
    known = [word for word, _ in Counter(words[0]).most_common() if word != UNKNOWN]
    numbers = {word: i for i, word in enumerate([UNKNOWN, *known[: vocabulary - 1]])}
    return Data(f"{name}, {len(numbers)} words", *(_sequences(torch.tensor([numbers.get(w, 0) for w in part])) for part in words))


def _words(text: str) -> list[str]:
    return [word for line in text.splitlines() for word in (*line.split(), END)]


def _sequences(numbers: Tensor) -> Pair:
    """Inputs and targets `(n, LENGTH)`: consecutive stretches, each read from a fresh state."""
    count = (len(numbers) - 1) // LENGTH
    if count < 1:
        raise TaskError(f"at least {LENGTH + 1} words of text are needed, got {len(numbers)}")
    inputs, targets = (numbers[shift : shift + count * LENGTH].view(count, LENGTH) for shift in (0, 1))
    return inputs, targets
