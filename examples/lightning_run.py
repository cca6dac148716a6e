"""Two runs of a Lightning trainer, joined from their `.ckpt` files.

    python examples/lightning_run.py runs/lightning       # trains twice: runs/lightning/a.ckpt and runs/lightning/b.ckpt
    dss connect runs/lightning/a.ckpt runs/lightning/b.ckpt --task examples/lightning_run.py:task --threshold 0.5 \\
        --out runs/lightning/path

A `.ckpt` holds the optimizer, the loop and the module's other entries too (here the weight of the loss): the network's own
are found by their names, and what is passed over is said.
"""

import sys
import warnings
from pathlib import Path

import lightning
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import dss

EPOCHS = 30


def network() -> nn.Module:
    """The network inside the Lightning module."""
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))


def points() -> tuple[Tensor, Tensor]:
    """Places in the unit square `(64, 2)`, and which of two diagonal corners each is near."""
    x = torch.rand(64, 2, generator=torch.Generator().manual_seed(0))
    return x, (x.sum(1) > 1).long()


class Classifier(lightning.LightningModule):
    """A network with its loss, whose classes have weights."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.loss = network(), nn.CrossEntropyLoss(weight=torch.ones(2))

    def training_step(self, batch: list[Tensor], _number: int) -> Tensor:
        """The loss of a batch."""
        x, y = batch
        return self.loss(self.network(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), 0.05)


def task() -> dss.Task:
    """What `dss connect` is asked about: the network alone."""
    return dss.Task(network(), cross_entropy, points(), name="two corners")


def main(folder: Path) -> None:
    """Make the two ends."""
    folder.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore", module="lightning")  # advice about workers and logging
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        trainer = lightning.Trainer(max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_progress_bar=False,
                                    enable_model_summary=False, enable_checkpointing=False)  # fmt: skip
        trainer.fit(Classifier(), DataLoader(TensorDataset(*points()), batch_size=64))
        trainer.save_checkpoint(folder / f"{name}.ckpt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
