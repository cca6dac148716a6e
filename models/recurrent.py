"""Recurrent language models."""

from torch import Tensor, nn


class LanguageModel(nn.Module):
    """Embedding, recurrent layers, and logits of the next word at every place.

    Args:
        vocabulary: number of words.
        width: features of the embedding and of each recurrent layer.
        layers: recurrent layers.
        cell: `nn.LSTM` or `nn.GRU`.
    """

    def __init__(self, vocabulary: int, *, width: int = 32, layers: int = 1, cell: type[nn.RNNBase] = nn.LSTM):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.recurrent = cell(width, width, layers, batch_first=True)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, words: Tensor) -> Tensor:
        """Logits `(n, vocabulary, length)` of the words that follow `words` `(n, length)`, classes second as
        `cross_entropy` wants them."""
        hidden, _ = self.recurrent(self.embedding(words))
        return self.head(hidden).transpose(1, 2)
