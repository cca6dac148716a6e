"""A small transformer encoder that classifies images by their rows."""

import torch
from torch import Tensor, nn


class RowTransformer(nn.Module):
    """Each row of an image is a token; encoder blocks, a mean over tokens, and logits.

    Args:
        side: rows, and pixels of a row.
        classes: outputs.
        width, heads, blocks: of the encoder; the feed-forward layer has `2 width` units.
    """

    def __init__(self, *, side: int = 8, classes: int = 10, width: int = 32, heads: int = 4, blocks: int = 1):
        super().__init__()
        self.embed = nn.Linear(side, width)
        self.place = nn.Parameter(0.1 * torch.randn(side, width))
        block = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(block, blocks, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.flatten(1).unflatten(1, (-1, self.embed.in_features))) + self.place
        return self.head(self.encoder(tokens).mean(1))
