"""MNIST (Freeman & Bruna 2017, section 4.2 and table 1, figure 3): `python -m experiments.mnist`.

Differences from the paper's script: no dropout while training (an objective is one fixed function), and the softmax is
applied once. Without MNIST (`--data FOLDER`, or OpenML) it runs on Fashion-MNIST, whose errors are larger, at thresholds of its own.
"""

from dataclasses import replace
from functools import partial

import torch
from torch.nn.functional import cross_entropy

import dss
from experiments.image_data import mnist, small_images
from experiments.networks import Network, main

THRESHOLDS = (0.04, 0.02, 0.015, 0.01, 0.009, 0.0085, 0.008, 0.00775, 0.0075, 0.007)
FASHION_THRESHOLDS = (0.3, 0.25, 0.2, 0.175, 0.15)

STUDY = Network(
    name="mnist",
    model=dss.PaperMNISTNet,
    loss=cross_entropy,
    judge_loss=dss.error_rate,
    thresholds=THRESHOLDS,
    paper_data="MNIST",
    stand_in_thresholds=FASHION_THRESHOLDS,
    optimizer=partial(torch.optim.Adam, lr=1e-4),
    batch_size=100,
    variants={"paper": (0.98, 1.02), "strict": (0.98, 1.0)},
)
SMALL = replace(STUDY, name="mnist-small", thresholds=(0.04, 0.01), stand_in_thresholds=(0.3, 0.175), pairs=2, judge_samples=500)
QUICK = replace(
    STUDY, name="mnist-quick", thresholds=(0.6,), stand_in_thresholds=None, variants={"paper": (0.98, 1.02)}, pairs=1, points=4, batch_size=20, steps=60, check_every=5,
    optimizer=partial(torch.optim.Adam, lr=1e-3),
)  # fmt: skip

if __name__ == "__main__":
    main(STUDY, SMALL, QUICK, mnist, partial(small_images, 200, 40), __file__)
