"""A small U-Net that finds discs in noise: two segmentations of one start, joined.

    python examples/unet.py runs/unet
    dss connect runs/unet/a.pt runs/unet/b.pt --task examples/unet.py:task --threshold 1.1x --out runs/unet/path

Pixels on the rim belong to neither side: their label is 255, which `ignore_index` leaves out. The loss is then a mean over
the pixels that count, whatever the chunks (docs/losses.md).
"""

import copy
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, max_pool2d

import dss

SIZE, IMAGES, RIM = 16, 48, 255


def twice(inputs: int, outputs: int) -> nn.Module:
    """Two convolutions with GroupNorm."""
    layers = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.GroupNorm(2, outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """One level down, one up, and the skip between them."""

    def __init__(self, width: int = 4):
        super().__init__()
        self.down, self.bottom = twice(1, width), twice(width, 2 * width)
        self.up, self.head = twice(3 * width, width), nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        below = interpolate(self.bottom(max_pool2d(skip, 2)), scale_factor=2)
        return self.head(self.up(torch.cat([skip, below], 1)))


def discs() -> tuple[Tensor, Tensor]:
    """Noisy images `(n, 1, SIZE, SIZE)` of one disc each, and the class of every pixel."""
    generator = torch.Generator().manual_seed(0)
    centre = 4 + (SIZE - 8) * torch.rand(IMAGES, 2, 1, 1, generator=generator)
    radius = 2 + 2 * torch.rand(IMAGES, 1, 1, generator=generator)
    grid = torch.stack(torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij"))
    distance = (grid - centre).square().sum(1).sqrt() - radius
    labels = torch.where(distance.abs() < 0.5, RIM, (distance < 0).long())
    noise = 0.3 * torch.randn(IMAGES, SIZE, SIZE, generator=generator)
    return ((distance < 0) + noise)[:, None], labels


def task() -> dss.Task:
    """Cross-entropy of the pixels that are not on the rim."""
    loss = partial(cross_entropy, ignore_index=RIM)
    return dss.Task(UNet(), loss, discs(), batch_size=16, name="discs", epochs=8, learning_rate=1e-2)


def main(folder: Path, epochs: int = 8) -> dss.Connection:
    """Train from one start in two orders of the data, save both ends, join them."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    *_, start = dss.train(task(), seed=0, epochs=3)
    given, states = replace(task(), model=start.model), []
    for seed, name in enumerate("ab", start=1):
        *_, last = dss.train(given, seed=seed, epochs=epochs)
        states.append(copy.deepcopy(last.model.state_dict()))
        dss.save_state(folder / f"{name}.pt", states[-1])
    objective, _ = given.objectives()
    worst = max(objective(objective.flatten(state)[None]).item() for state in states)
    return dss.connect(objective, *states, threshold=1.1 * worst, limits=dss.Limits(seconds=60))


if __name__ == "__main__":
    print(main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/unet")).reason)
