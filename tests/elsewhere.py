"""A device that stands for a GPU where there is none: it computes on the CPU, and refuses what a GPU would refuse.

Tensors that lie `elsewhere` say that their device is "meta", which needs no driver, and hold real numbers. An operation on
tensors here and elsewhere together fails, as does a random draw elsewhere by a generator that lives here. So whatever creates
a tensor without saying where is found, and values may be asked for as on a GPU.
"""

from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

ELSEWHERE = torch.device("meta")
aten = torch.ops.aten


class Far(torch.Tensor):
    """A tensor elsewhere; `near` is what it holds."""

    @staticmethod
    def __new__(cls, near):
        return torch.Tensor._make_wrapper_subclass(
            cls, near.size(), strides=near.stride(), storage_offset=near.storage_offset(), dtype=near.dtype, device=ELSEWHERE
        )

    def __init__(self, near):
        self.near = near

    def __repr__(self):
        return f"Far({self.near!r})"

    def tolist(self):
        return self.near.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


def near(value):
    return value.near if isinstance(value, Far) else value


def far(value):
    return Far(value) if isinstance(value, torch.Tensor) and not isinstance(value, Far) else value


def run(func, args, kwargs):
    """One operation, where its tensors lie or where it is told to."""
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    there = [isinstance(x, Far) for x in tensors]
    wanted = kwargs.get("device")
    moving = func in (aten._to_copy.default, aten.copy_.default, aten._copy_from.default)
    if any(there) and not moving:
        strays = [x for x, is_far in zip(tensors, there) if not is_far and x.ndim]
        # An index may lie here: torch moves it.
        if strays and func not in (aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default):
            raise RuntimeError(
                f"expected all tensors to be on the same device, but {func} was given {[tuple(x.shape) for x in strays]} here"
            )
    given, named = tree_map(near, args), tree_map(near, kwargs)
    if wanted is not None:
        named["device"] = torch.device("cpu")
        if wanted == ELSEWHERE and isinstance(kwargs.get("generator"), torch.Generator):
            raise RuntimeError("a generator that lives here cannot draw elsewhere")
    found = func(*given, **named)
    if func is aten._to_copy.default:
        stays = (wanted is None and any(there)) or wanted == ELSEWHERE
    else:
        stays = isinstance(args[0], Far) if func is aten.copy_.default else any(there) or wanted == ELSEWHERE
    if not stays:
        return found
    return return_and_correct_aliasing(func, args, kwargs, tree_map(far, found)) if any(there) else tree_map(far, found)


class _Factories(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


class _Literals(TorchFunctionMode):
    """On a device of that name torch makes tensors without numbers of the lists that it is given, as data or as an index."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == ELSEWHERE:
            return far(func(*args, **kwargs | {"device": "cpu"}))
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            args = (
                args[0],
                tuple(torch.tensor(i, dtype=None if i else torch.long) if isinstance(i, list) else i for i in index),
                *args[2:],
            )
        return func(*args, **kwargs)


@contextmanager
def elsewhere():
    """Within it, `device=ELSEWHERE` computes."""
    with _Factories(), _Literals():
        yield


def sent(value):
    """A tensor, or the tensors of a module, elsewhere."""
    if isinstance(value, torch.nn.Module):
        for module in value.modules():
            for kind in (module._parameters, module._buffers):
                for name, tensor in kind.items():
                    if tensor is not None:
                        moved = Far(tensor.detach().clone())
                        kind[name] = torch.nn.Parameter(moved, tensor.requires_grad) if kind is module._parameters else moved
        return value
    return Far(value.detach().clone())
