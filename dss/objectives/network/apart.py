"""A network's samples, each bounded alone."""

from torch import Tensor

from dss.enclosure import Blocks, bytes_per_cell
from dss.objectives.network.bounds import Bounds
from dss.objectives.network.samples import Samples
from dss.objectives.objective import Apart

SMALL = 2**18
"""Parameters of a network whose passes are recorded."""


class SamplesApart(Apart):
    """Bounds on the loss of every sample.

    Args:
        bounds: of the model and the loss.
        data: all samples, in the dtype of the points.
        weight: the sum of their weights.
        memory: bytes that may be used, roughly.
        recording: bytes that may be held for a moment, while a pass is recorded.
    """

    def __init__(self, bounds: Bounds, data: Samples, weight: float, memory: int, recording: int):
        self.bounds, self.data, self.weight, self.memory = bounds, data, weight, memory
        # Large networks wait for memory and arithmetic, not for Python.
        self.blocks = None
        if bounds.space.size <= SMALL and data.inputs[0].device.type == "cpu":
            most = memory // bytes_per_cell(bounds.bytes, parameters=0)
            self.blocks = Blocks(bounds.bytes, samples=len(data), most=most, memory=recording)
            self.block = self.blocks.size

    def enclose(self, starts: Tensor, ends: Tensor, lower: Tensor, upper: Tensor, index: Tensor) -> Tensor:
        return self.bounds.on_samples(starts, ends, lower, upper, self.data, index, self.memory, self.blocks)

    def mean(self, values: Tensor) -> Tensor:
        return self.bounds.mean(values, self.weight)

    def losses(self, point: Tensor, index: Tensor | None = None) -> Tensor:
        return self.bounds.losses(point, self.data if index is None else self.data.take(index))
