"""Where a model's tensors sit, found once: handing it others is then one assignment each."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn


class Seats:
    """The entries of a model's modules that hold its parameters and buffers, by the name of the tensor.

    `torch.func.functional_call` looks for them, and for tied ones, at every call, which takes as long as a small network's
    forward pass. A tied tensor has several seats.

    Args:
        model: whose modules and ties stay as they are.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        names = {id(tensor): name for name, tensor in (*model.named_parameters(), *model.named_buffers())}
        self._of: dict[str, list[tuple[dict, str]]] = {}
        for module in model.modules():
            for entries in (module._parameters, module._buffers):
                for own, tensor in entries.items():
                    if tensor is not None:
                        self._of.setdefault(names[id(tensor)], []).append((entries, own))

    @contextmanager
    def taken(self, *given: Mapping[str, Tensor]) -> Iterator[None]:
        """Within it, the model computes with the tensors given by name, and afterwards with its own again."""
        before = []
        for tensors in given:
            for name, tensor in tensors.items():
                for entries, own in self._of[name]:
                    before.append((entries, own, entries[own]))
                    entries[own] = tensor
        try:
            yield
        finally:
            for entries, own, tensor in before:
                entries[own] = tensor
