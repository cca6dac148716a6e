"""CIFAR-10 (Freeman & Bruna 2017, section 4.2 and table 1, figure 4): `python -m experiments.cifar10`.

Differences from the paper's script: centre crops without random flips, brightness and contrast (an objective is one fixed
function), and no weight decay on the dense layers of the ends.
"""

from dataclasses import replace
from functools import partial

import torch
from torch.nn.functional import cross_entropy

import dss
from experiments.image_data import cifar10, small_images
from experiments.networks import Network, main
from models.paper import CIFAR10Net

THRESHOLDS = (0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)

STUDY = Network(
    name="cifar10",
    model=CIFAR10Net,
    loss=cross_entropy,
    judge_loss=dss.error_rate,
    thresholds=THRESHOLDS,
    paper_data="CIFAR-10",
    stand_in_thresholds=(0.8, 0.7, 0.6, 0.5, 0.4),
    optimizer=partial(torch.optim.SGD, lr=0.1),
    batch_size=128,
)
SMALL = replace(STUDY, name="cifar10-small", thresholds=(0.7, 0.4), stand_in_thresholds=(0.7, 0.4), pairs=1, judge_samples=200)
QUICK = replace(
    STUDY,
    name="cifar10-quick",
    thresholds=(0.85,),
    stand_in_thresholds=None,
    variants={"paper": (0.98, 1.1)},
    pairs=1,
    points=4,
    batch_size=32,
    steps=60,
    check_every=5,
)

if __name__ == "__main__":
    main(STUDY, SMALL, QUICK, cifar10, partial(small_images, 200, 40, channels=3, size=24), __file__)
