"""Residual convolutional networks for small images (He et al. 2016, section 4.2: 6n + 2 layers)."""

from torch import Tensor, nn
from torch.nn.functional import relu


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut; where the shape changes the shortcut is a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, norm: bool):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=not norm)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=not norm)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) if norm else nn.Identity() for _ in range(2))
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = relu(self.norms[0](self.first(x)))
        return relu(self.norms[1](self.second(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """`6 blocks + 2` layers in three stages of `width`, 2 `width` and 4 `width` channels; 3 blocks make ResNet-20.

    Args:
        blocks: residual blocks of a stage.
        width: channels of the first stage.
        channels: channels of the images.
        classes: outputs.
        norm: BatchNorm after every convolution, or none.
    """

    def __init__(self, *, blocks: int = 3, width: int = 16, channels: int = 1, classes: int = 10, norm: bool = True):
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=not norm)
        self.norm = nn.BatchNorm2d(width) if norm else nn.Identity()
        widths, stages = (width, width, 2 * width, 4 * width), []
        for stage in range(3):
            for block in range(blocks):
                inputs = widths[stage] if block == 0 else widths[stage + 1]
                stages.append(Block(inputs, widths[stage + 1], 2 if block == 0 and stage else 1, norm=norm))
        self.blocks = nn.Sequential(*stages)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(relu(self.norm(self.stem(x))))
        return self.head(x.mean((2, 3)))
