"""Losses as people write them, each with a small model and data for it: what the judged value and its bound are compared on.

Data is sorted by target, as files often are, and padding begins late: the first samples tell nothing of the last ones.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

N = 29
WEIGHTS = torch.tensor([1.0, 1.0, 20.0])


def seeded(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X = seeded(N, 6)
CLASSES = torch.randint(3, (N,), generator=torch.Generator().manual_seed(1)).sort().values
PADDED = torch.where((torch.arange(N) > 14) & (torch.arange(N) % 2 == 0), -100, CLASSES)
REALS, COLUMN = seeded(N, 3, seed=2), seeded(N, 1, seed=3).sort(0).values
SHARES, BITS = seeded(N, 3, seed=4).softmax(1), (seeded(N, 3, seed=5) > 0).float()
IMAGES = seeded(N, 2, 3, 3, seed=6)
PIXELS = torch.where(seeded(N, 3, 3, seed=7) > 0, 0, torch.arange(N)[:, None, None] % 3).long()
PIXELS[20:, 2:] = 255
WORDS = torch.randint(1, 5, (N, 4), generator=torch.Generator().manual_seed(8))
NEXT = WORDS.roll(-1, 1) * (torch.arange(4) < 4 - torch.arange(N)[:, None] // 9)


def mlp(outputs=3, *layers):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, outputs), *layers)


def log_probabilities():
    return mlp(3, nn.LogSoftmax(1))


def pixels():
    torch.manual_seed(0)
    return nn.Conv2d(2, 3, 3, padding=1)


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Embedding(5, 3), nn.Linear(3, 5)

    def forward(self, words):
        return self.head(self.embed(words)).transpose(1, 2)


def weighted_pair(output, target):
    losses = F.cross_entropy(output, target, reduction="none")
    weights = WEIGHTS.to(output.dtype)[target]
    return (losses * weights).sum(), weights.sum()


def vectors_pair(output, target):
    mask = (target != -100).to(output.dtype)
    return F.cross_entropy(output, target.clamp(min=0), reduction="none") * mask, mask


def tokens_pair(output, target):
    return F.cross_entropy(output, target, ignore_index=0, reduction="sum"), (target != 0).sum()


def masked_squares(output, target):
    mask = target > -0.5
    return ((output - target) ** 2 * mask).sum(), mask.sum()


def row_squares(output, target):
    return ((output - target) ** 2).sum(1)


SUMS = {
    "mean": (mlp, F.cross_entropy, X, CLASSES),
    "mean, a closure": (mlp, lambda o, t: F.cross_entropy(o, t), X, CLASSES),
    "mean squares": (mlp, nn.MSELoss(), X, REALS),
    "absolute": (mlp, F.l1_loss, X, REALS),
    "huber": (mlp, nn.HuberLoss(delta=0.3), X, REALS),
    "smooth l1": (mlp, partial(F.smooth_l1_loss, beta=0.2), X, REALS),
    "sum": (mlp, nn.CrossEntropyLoss(reduction="sum"), X, PADDED),
    "sum of squares": (mlp, nn.MSELoss(reduction="sum"), X, REALS),
    "sum, old spelling": (mlp, partial(F.l1_loss, size_average=False), X, REALS),
    "none": (mlp, nn.CrossEntropyLoss(reduction="none", weight=WEIGHTS), X, CLASSES),
    "row losses": (mlp, row_squares, X, REALS),
    "class weights": (mlp, nn.CrossEntropyLoss(weight=WEIGHTS), X, CLASSES),
    "class weights, partial": (mlp, partial(F.cross_entropy, weight=WEIGHTS), X, CLASSES),
    "class weights, sum": (mlp, nn.CrossEntropyLoss(weight=WEIGHTS, reduction="sum"), X, CLASSES),
    "ignored": (mlp, F.cross_entropy, X, PADDED),
    "ignored class": (mlp, nn.CrossEntropyLoss(ignore_index=1), X, CLASSES),
    "smoothed": (mlp, nn.CrossEntropyLoss(label_smoothing=0.2), X, CLASSES),
    "smoothed, weights, ignored": (mlp, nn.CrossEntropyLoss(WEIGHTS, label_smoothing=0.2), X, PADDED),
    "soft targets": (mlp, F.cross_entropy, X, SHARES),
    "soft targets, weights, smoothed": (mlp, nn.CrossEntropyLoss(WEIGHTS, label_smoothing=0.1), X, SHARES),
    "nll": (log_probabilities, nn.NLLLoss(weight=WEIGHTS), X, PADDED),
    "binary": (mlp, nn.BCEWithLogitsLoss(pos_weight=WEIGHTS), X, BITS),
    "binary, weights": (mlp, nn.BCEWithLogitsLoss(weight=WEIGHTS), X, BITS),
    "probabilities": (partial(mlp, 3, nn.Sigmoid()), nn.BCELoss(), X, BITS),
    "kl": (log_probabilities, nn.KLDivLoss(reduction="batchmean"), X, SHARES),
    "kl, mean": (log_probabilities, nn.KLDivLoss(), X, SHARES),
    "kl, sum": (log_probabilities, partial(F.kl_div, reduction="sum"), X, SHARES),
    "kl, log target": (log_probabilities, nn.KLDivLoss(reduction="batchmean", log_target=True), X, SHARES.log()),
    "poisson": (mlp, nn.PoissonNLLLoss(full=True), X, REALS.abs()),
    "gaussian": (mlp, lambda o, t: F.gaussian_nll_loss(o[:, :1], t, o[:, 1:2].exp()), X, COLUMN),
    "margin": (mlp, nn.MultiMarginLoss(weight=WEIGHTS), X, CLASSES),
    "many labels": (mlp, nn.MultiLabelSoftMarginLoss(weight=WEIGHTS), X, BITS),
    "pixels": (pixels, F.cross_entropy, IMAGES, PIXELS.clamp(max=2)),
    "pixels, weights, ignored": (pixels, nn.CrossEntropyLoss(WEIGHTS, ignore_index=255), IMAGES, PIXELS),
    "tokens": (Words, F.cross_entropy, WORDS, NEXT),
    "tokens, padded": (Words, nn.CrossEntropyLoss(ignore_index=0), WORDS, NEXT),
    "pair, class weights": (mlp, weighted_pair, X, CLASSES),
    "pair, vectors": (mlp, vectors_pair, X, PADDED),
    "pair, tokens": (Words, tokens_pair, WORDS, NEXT),
    "pair, mask": (mlp, masked_squares, X, REALS),
}
"""Ratios of sums over samples: model, loss, inputs, targets."""


def contrastive(output, target):
    scores = output @ target.T / 0.5
    return F.cross_entropy(scores, torch.arange(len(target)))


def dice(output, target):
    odds = torch.sigmoid(output)
    return 1 - 2 * (odds * target).sum() / (odds + target).sum()


def outer_squares(output, target):
    return ((output - target[:, 0]) ** 2).mean()


def root_mean_square(output, target):
    return ((output - target) ** 2).mean().sqrt()


def largest(output, target):
    return (output - target).abs().flatten().amax(0)


def model_weighted(output, target):
    weights = torch.sigmoid(output)
    return (weights * target).sum(), weights.sum()


WHOLE = {
    "contrastive": (mlp, contrastive, X, REALS),
    "dice": (mlp, dice, X, BITS),
    "paired by broadcasting": (partial(mlp, 1), outer_squares, X, COLUMN),
    "root mean square": (mlp, root_mean_square, X, REALS),
    "largest": (mlp, largest, X, REALS),
    "weights of the model": (mlp, model_weighted, X, BITS),
}
"""Losses of the whole data at once."""
