"""How points and samples are cut so that one piece of an evaluation fits memory, by sizes alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from dss.base.memory import fitting
from dss.objectives.network import capacity, statistics
from dss.objectives.network.evaluation import Evaluation, even_chunks
from dss.objectives.network.rows import Tensors
from dss.objectives.network.samples import Samples, Slices

# Activations of one chunk stay below this, whatever the data's size: the paper's network on 10,000 images
# takes 2.85 s a loss where 256 MiB take 2.47, and peaks at 1.0 GB instead of 1.4 (2 cores, one thread).
CHUNK_BYTES = 48 * 2**20


@dataclass(frozen=True, eq=False)
class Pieces:
    """Sums over all samples, group by group of rows and chunk by chunk of samples.

    Attributes:
        evaluation: of what goes together.
        bytes: what a forward pass takes for one sample.
        always: whether rows go together even where one alone fills fast memory.
    """

    evaluation: Evaluation
    bytes: int
    always: bool

    def losses(self, points: Tensor, samples: Samples, weight: float, *, training: bool, calibration: Samples | None) -> Tensor:
        """Losses `(k,)` of points `(k, p)`, without gradient.

        Args:
            weight: what the sum over the samples is divided by.
            training: whether layers normalise by what they see.
            calibration: samples of which running statistics are taken, where they are recomputed for every point.
        """
        found = []
        for group in self._groups(points, samples):
            constants, parts = self.constants(group, calibration), self._parts(group, samples, training)
            found.append(self.evaluation.losses(group, constants, parts, weight, training))
        return torch.cat(found)

    def gradient(
        self, points: Tensor, samples: Samples, weight: float, *, training: bool, calibration: Samples | None
    ) -> tuple[Tensor, Tensor]:
        """The same, and gradients `(k, p)`."""
        gradients, losses, row = torch.empty_like(points), [], 0
        for group in self._groups(points, samples):
            constants, parts = self.constants(group, calibration), self._parts(group, samples, training)
            out, pull_back = gradients[row : row + len(group)], partial(self._pull_back, calibration, group=group)
            losses.append(self.evaluation.gradient(group, constants, parts, weight, training, out, pull_back))
            row += len(group)
        return torch.cat(losses), gradients

    def constants(self, group: Tensor, calibration: Samples | None) -> Tensors:
        """Constants to judge one group with: running statistics of some samples, if any, belong to a single row."""
        rows, norms = self.evaluation.rows, self.evaluation.norms
        constants = rows.constants_like(group)
        if norms and calibration is not None:
            row = {name: value[0] for name, value in self.evaluation.space.unflatten(group).items()}
            constants |= statistics.recalibrated(rows, norms, row, self._calibrating(group, calibration))
        return constants

    def size(self, group: Tensor) -> int:
        """Samples of a chunk for a group of rows."""
        return max(1, fitting(CHUNK_BYTES) // (self.bytes * len(group)))

    def _groups(self, points: Tensor, samples: Samples) -> list[Tensor]:
        """Rows to be evaluated together: as many as fit fast memory under vmap, one by one in a loop."""
        return list(points.split(self.rows(samples)))

    def rows(self, samples: Samples) -> int:
        """How many rows are evaluated together: one where each goes through the model on its own."""
        rows = capacity.FAST_BYTES // (self.bytes * len(samples))
        return max(rows, 2) if self.evaluation.rows.can_batch and (rows > 1 or self.always) else 1

    def _parts(self, group: Tensor, samples: Samples, training: bool) -> Iterator[Samples]:
        """The samples in chunks that fit memory; all at once where the loss is of the whole."""
        if self.evaluation.rows.loss.whole:
            return iter([samples.take(slice(None))])
        if training and self.evaluation.norms:  # layers normalise by what they see, which must be two samples at least
            return iter(even_chunks(samples, self.size(group), least=2))
        return samples.chunks(self.size(group))

    def _pull_back(self, calibration: Samples | None, parameters: Tensors, cotangents: Tensors, *, group: Tensor) -> list[Tensor]:
        """Gradient with respect to the parameters of a group's single row through its running statistics."""
        assert calibration is not None  # there are statistics that move
        parts = self._calibrating(group, calibration)
        return statistics.pull_back(self.evaluation.rows, self.evaluation.norms, parts, parameters, cotangents)

    def _calibrating(self, group: Tensor, samples: Samples) -> Slices:
        """Calibration data in chunks."""
        return even_chunks(samples, self.size(group), least=2)
