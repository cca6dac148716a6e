"""Penn Treebank (Freeman & Bruna 2017, section 4.3 and table 1, figure 5): `python -m experiments.ptb`.

The paper's script appends the wrong variable, so that its segment test never fails: its panel shows strings of three
beads whatever their loss. Here the test counts. Thresholds are cross-entropies, logarithms of the paper's perplexities.
The script sums the loss over the 20 words of a stretch, with rate 1 and gradients clipped at 5; for the mean that is a rate of 20
and 0.25. Unlike there, every stretch of 20 words starts from a fresh state: a loss is a mean over independent samples.
"""

from dataclasses import replace
from functools import partial
from math import log

import torch
from torch.nn.functional import cross_entropy

from experiments.networks import Network, main
from experiments.text_data import described_data_sets, penn_treebank
from models.paper import PTBNet

PERPLEXITIES = (700, 300, 250, 200, 150, 135)

STUDY = Network(
    name="ptb",
    model=PTBNet,
    loss=cross_entropy,
    judge_loss=cross_entropy,
    thresholds=tuple(log(perplexity) for perplexity in PERPLEXITIES),
    paper_data="Penn Treebank",
    optimizer=partial(torch.optim.SGD, lr=20.0),
    batch_size=20,
    clip_norm=0.25,
    insertion="midpoint",
    judge_samples=250,
)
SMALL = replace(STUDY, name="ptb-small", thresholds=(log(300), log(200)), pairs=1, judge_samples=50)
QUICK = replace(
    STUDY,
    name="ptb-quick",
    model=partial(PTBNet, vocabulary=200, width=16),
    thresholds=(log(120),),
    pairs=1,
    points=4,
    steps=200,
    check_every=5,
)

if __name__ == "__main__":
    main(STUDY, SMALL, QUICK, penn_treebank, described_data_sets, __file__)
