"""Losses of many parameter rows of one model: under `vmap`, or one row after the other."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.backends import cuda as attention
from torch.func import vmap
from torch.utils._pytree import tree_map

from dss.base.space import ParameterSpace
from dss.objectives.network.blame import told
from dss.objectives.network.copies import quiet_copy
from dss.objectives.network.loss import SampleLoss
from dss.objectives.network.pooling import SlicedPooling
from dss.objectives.network.samples import Samples
from dss.objectives.network.seats import Seats

Tensors = dict[str, Tensor]

# Samples of a pass from which on max-pooling by slices pays for being asked at every operation whether it is one.
MANY = 512


class RowLosses:
    """What a loss adds up from samples, for each row of parameters; the caller's model is copied and never touched.

    Attributes:
        template: the copy, in `eval()`; parameters and constants are passed in at every call.
        constants: what a state dict holds beside the coordinates: the model's own buffers and frozen parameters.
        loss: what is added up; known once the loss was asked for something (`probe`).
        writes: whether a forward pass or the loss writes in place into what it is given (`ReLU(inplace=True)` on the data,
            `Embedding(max_norm=)` on its weights); it is then given copies.
        can_differentiate: whether the loss has a gradient; one without may jump.
        looks_back: whether the loss takes derivatives of the outputs, and must be given them with their history.
        can_batch: whether the model has all the batching rules that `vmap` needs.
        channels_last: whether images are best given in channels-last order.
        convolves: whether there are convolutions, which `vmap` makes grouped ones of: on a CPU slower than one after the other.
        names: what the model and the loss are called in errors.
        autocast: the dtype of what `torch.autocast` casts; None if it is not used.
        rounds_as: the dtype as which the loss rounds, whatever it is given.
    """

    rounds_as: torch.dtype = torch.float64
    loss: SampleLoss
    can_differentiate: bool

    def __init__(self, model: nn.Module, space: ParameterSpace, names: tuple[str, str], autocast: torch.dtype | None):
        self.names, self.autocast = names, autocast
        self.template = quiet_copy(model, moving=space.names).requires_grad_(False)
        own = dict(self.template.named_parameters())
        self.frozen: Tensors = {name: own[name].detach() for name in space.frozen}
        self.constants: Tensors = dict(self.template.named_buffers()) | self.frozen
        self.dtype, self.writes, self.looks_back = space.dtype, False, False
        self._kept: ExitStack | None = None
        self._found: Seats | None = None
        modules = list(self.template.modules())
        self.channels_last = any(isinstance(m, nn.Conv2d) for m in modules)
        self.convolves = any(isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) for m in modules)
        self.can_batch = not any(isinstance(m, nn.RNNBase) for m in modules)

    def constants_like(self, points: Tensor) -> Tensors:
        """The constants on the device of `points` and, where they have the dtype of what moves, or are buffers of real
        numbers, in the dtype of `points`: a frozen part in another precision keeps it."""

        def follows(name: str, value: Tensor) -> bool:
            return value.dtype == self.dtype if name in self.frozen else value.is_floating_point()

        return {
            name: value.to(points.device, points.dtype) if follows(name, value) else value.to(points.device)
            for name, value in self.constants.items()
        }

    def output(self, parameters: Tensors, constants: Tensors, inputs: tuple[Tensor, ...]) -> Any:
        """What the model makes of the inputs with these parameters: all of them, for one missing would silently be the
        template's.

        Raises:
            TaskError: it fails.
        """
        # Tensors of their own, so that a forward which asks for gradients with respect to its inputs does not ask for ours.
        inputs = tuple(x.clone() if self.writes else x.detach() for x in inputs)
        if self.writes:
            parameters, constants = _copied(parameters), _copied(constants)
        # Without a gradient nobody asks where a maximum lies. Where gradients are enabled says nothing: losses are taken there, too.
        plain = any(x.requires_grad for x in parameters.values()) or len(inputs[0]) < MANY
        pooling = SlicedPooling() if self.convolves and not plain else nullcontext()
        with told(self.names[0]), _plain_attention(), self.casting(parameters), pooling:
            if self._kept is not None:
                self._kept.enter_context(self._seats.taken(parameters, constants))
                return self.template(*inputs)
            with self._seats.taken(parameters, constants):
                return self.template(*inputs)

    @property
    def _seats(self) -> Seats:
        if self._found is None or self._found.model is not self.template:
            self._found = Seats(self.template)
        return self._found

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Within it, parameters stay in the model after a pass: what is recomputed on the way back (`torch.utils.checkpoint`)
        must find them there. For a single row."""
        with ExitStack() as self._kept:
            try:
                yield
            finally:
                self._kept = None

    def one(self, parameters: Tensors, constants: Tensors, samples: Samples) -> Tensor:
        """What the loss adds up, `()`, with one set of parameters.

        Raises:
            TaskError: the model or the loss fails.
        """
        output = self.output(parameters, constants, samples.inputs)
        target = samples.own_target if self.writes else tree_map(Tensor.detach, samples.target)
        with told(self.names[1]), self.casting(parameters):
            return self.loss.value(output, target)

    def precision(self, dtype: torch.dtype) -> torch.dtype:
        """In which a pass with parameters of a dtype computes, where it is coarsest."""
        return max(self.autocast or dtype, self.rounds_as, key=lambda dtype: torch.finfo(dtype).eps)

    def casting(self, parameters: Tensors) -> AbstractContextManager:
        """`torch.autocast` for a pass with these parameters, if it is wanted."""
        if self.autocast is None:
            return nullcontext()
        # Without its memory of casts: it would keep those of other points.
        return torch.autocast(next(iter(parameters.values())).device.type, self.autocast, cache_enabled=False)

    def batch(self, parameters: Tensors, constants: Tensors, samples: Samples) -> Tensor:
        """The same `(k,)` for parameters stacked along the first axis, through one `vmap`; constants are shared."""
        return vmap(lambda row: self.one(row, constants, samples))(parameters)

    def loop(self, parameters: Tensors, constants: Tensors, samples: Samples) -> Tensor:
        """The same, one row after the other."""
        count = len(next(iter(parameters.values())))
        rows = ({name: _row(value, i) for name, value in parameters.items()} for i in range(count))
        return torch.stack([self.one(row, constants, samples) for row in rows])


def _row(stacked: Tensor, i: int) -> Tensor:
    """One row, whose gradient may come sparse: a slice's may not."""
    row = stacked[i]
    if row.requires_grad:
        row.register_hook(_dense)
    return row


def _dense(gradient: Tensor) -> Tensor | None:
    return None if gradient.layout is torch.strided else gradient.to_dense()


def _copied(tensors: Tensors) -> Tensors:
    return {name: value.clone() for name, value in tensors.items()}


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention without its fused kernels: they have no batching rule, and round differently with gradients.

    Switch by switch: `torch.nn.attention.sdpa_kernel` does the same, and takes as long as two layers of a small network.
    """
    before = [(switch, enabled()) for enabled, switch, _ in _ATTENTION]
    try:
        for _, switch, wanted in _ATTENTION:
            switch(wanted)
        yield
    finally:
        for switch, was in before:
            switch(was)


# How attention may be computed, on a CPU too: whether it is allowed, the switch, and what is wanted.
_ATTENTION = (
    (torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled, False),
    (attention.flash_sdp_enabled, attention.enable_flash_sdp, False),
    (attention.mem_efficient_sdp_enabled, attention.enable_mem_efficient_sdp, False),
    (attention.cudnn_sdp_enabled, attention.enable_cudnn_sdp, False),
    (attention.math_sdp_enabled, attention.enable_math_sdp, True),
)
