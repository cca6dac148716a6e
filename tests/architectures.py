"""Small models of the kinds people use, with data and losses: what every feature must work for unchanged."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy


class ResidualLayerNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.norm, self.head = nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(x + torch.relu(self.inner(self.norm(x))))


class WordLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.lstm, self.head = nn.Embedding(7, 5), nn.LSTM(5, 4, 2, batch_first=True), nn.Linear(4, 7)

    def forward(self, words):
        return self.head(self.lstm(self.embed(words))[0])


class TiedWords(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(7, 5), nn.Linear(5, 7, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, words):
        return self.head(self.embed(words))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.encoder(x).mean(1))


def mlp():
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def conv_batch_norm():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 4),
        nn.BatchNorm1d(4), nn.Linear(4, 3),
    )  # fmt: skip


def token_cross_entropy(output, target):
    return cross_entropy(output.transpose(1, 2), target)


def vectors():
    return torch.randn(30, 6), torch.randint(3, (30,))


def words():
    """Every word is its own target: even tied weights can learn that."""
    x = torch.randint(7, (30, 4))
    return x, x.clone()


CASES = {
    "mlp": (mlp, vectors, cross_entropy),
    "conv_batch_norm": (conv_batch_norm, lambda: (torch.randn(30, 1, 6, 6), torch.randint(3, (30,))), cross_entropy),
    "residual_layer_norm": (ResidualLayerNorm, vectors, cross_entropy),
    "lstm": (WordLSTM, words, token_cross_entropy),
    "transformer": (Encoder, lambda: (torch.randn(30, 5, 8), torch.randint(3, (30,))), cross_entropy),
    "tied": (TiedWords, words, token_cross_entropy),
}
