"""How points and samples are cut so that one piece of an evaluation fits memory, by sizes alone."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from dss.base.space import ParameterSpace
from dss.objectives.network import capacity, statistics
from dss.objectives.network.evaluation import even_chunks
from dss.objectives.network.rows import RowLosses, Tensors
from dss.objectives.network.samples import Samples, Slices

# Activations of one chunk stay below this, whatever the data's size.
CHUNK_BYTES = 256 * 2**20


@dataclass(frozen=True, eq=False)
class Pieces:
    """What goes together through a model.

    Attributes:
        rows: the model and its loss.
        space: names of the coordinates.
        norms: layers whose running statistics are recomputed for every point.
        bytes: what a forward pass takes for one sample.
        always: whether rows go together even where one alone fills fast memory.
    """

    rows: RowLosses
    space: ParameterSpace
    norms: statistics.Norms
    bytes: int
    always: bool

    def groups(self, points: Tensor, samples: Samples) -> list[Tensor]:
        """Rows to be evaluated together: as many as fit fast memory under vmap, one by one in a loop."""
        fitting = capacity.FAST_BYTES // (self.bytes * len(samples))
        together = self.rows.can_batch and (fitting > 1 or self.always)
        return list(points.split(max(fitting, 2) if together else 1))

    def parts(self, group: Tensor, samples: Samples, *, training: bool) -> Iterator[Samples]:
        """The samples in chunks that fit memory; all at once where the loss is of the whole."""
        if self.rows.loss.whole:
            return iter([samples.take(slice(None))])
        if training and self.norms:  # layers normalise by what they see, which must be two samples at least
            return iter(even_chunks(samples, self.size(group), least=2))
        return samples.chunks(self.size(group))

    def constants(self, group: Tensor, calibration: Samples | None) -> Tensors:
        """Constants to judge one group with: running statistics of some samples, if any, belong to a single row."""
        constants = self.rows.constants_like(group)
        if self.norms and calibration is not None:
            row = {name: value[0] for name, value in self.space.unflatten(group).items()}
            constants |= statistics.recalibrated(self.rows, self.norms, row, self._calibrating(group, calibration))
        return constants

    def pull_back(self, calibration: Samples, parameters: Tensors, cotangents: Tensors, group: Tensor) -> list[Tensor]:
        """Gradient with respect to the parameters of a group's single row through its running statistics."""
        return statistics.pull_back(self.rows, self.norms, self._calibrating(group, calibration), parameters, cotangents)

    def _calibrating(self, group: Tensor, samples: Samples) -> Slices:
        """Calibration data in chunks."""
        return even_chunks(samples, self.size(group), least=2)

    def size(self, group: Tensor) -> int:
        """Samples of a chunk for a group of rows."""
        return max(1, CHUNK_BYTES // (self.bytes * len(group)))
