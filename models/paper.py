"""Networks of Freeman & Bruna 2017 that no built-in task needs; those of its polynomials and of MNIST are `dss.tasks.nets`."""

from torch import Tensor, nn


class TriangleNet(nn.Sequential):
    """The bias-free 2-3-2 ReLU network of appendix E, 12 parameters."""

    def __init__(self):
        super().__init__(nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False))


class CIFAR10Net(nn.Module):
    """The paper's network for 24x24 colour crops, 1.07 million parameters: two convolutions with local response normalisation.

    Weights start as truncated normals (cut at two deviations) of deviation 0.05, 0.05, 0.04, 0.04, 1/192, and biases at
    0, 0.1, 0.1, 0.1, 0.
    """

    DEVIATIONS = (0.05, 0.05, 0.04, 0.04, 1 / 192)
    BIASES = (0.0, 0.1, 0.1, 0.1, 0.0)

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 64, 5, padding=2), nn.Conv2d(64, 64, 5, padding=2)
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        # TensorFlow's `lrn(4, bias=1, alpha=0.001 / 9, beta=0.75)`: radius 4 is 9 channels; torch divides alpha by 9 itself.
        self.normalise = nn.LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1.0)
        self.fc1, self.fc2, self.fc3 = nn.Linear(64 * 6 * 6, 384), nn.Linear(384, 192), nn.Linear(192, 10)
        layers = (self.conv1, self.conv2, self.fc1, self.fc2, self.fc3)
        for layer, deviation, bias in zip(layers, self.DEVIATIONS, self.BIASES, strict=True):
            nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
            nn.init.constant_(layer.bias, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(n, 10)` of images `(n, 3, 24, 24)`."""
        x = self.normalise(self.pool(self.conv1(x).relu()))
        x = self.pool(self.normalise(self.conv2(x).relu()))
        return self.fc3(self.fc2(self.fc1(x.flatten(1)).relu()).relu())


class PTBNet(nn.Module):
    """The paper's language model: embedding, two LSTM layers, a softmax over the vocabulary; no dropout.

    All weights start uniform in [-0.1, 0.1], and the LSTM's biases at 0.

    Args:
        vocabulary: number of words.
        width: of the embedding and of each LSTM layer.
    """

    def __init__(self, vocabulary: int = 10_000, width: int = 200):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.recurrent = nn.LSTM(width, width, 2, batch_first=True)
        self.head = nn.Linear(width, vocabulary)
        for name, parameter in self.named_parameters():
            zero = name.startswith("recurrent.bias")
            nn.init.zeros_(parameter) if zero else nn.init.uniform_(parameter, -0.1, 0.1)

    def forward(self, words: Tensor) -> Tensor:
        """Logits `(n, vocabulary, length)` of the words that follow `words` `(n, length)`."""
        hidden, _ = self.recurrent(self.embedding(words))
        return self.head(hidden).transpose(1, 2)
