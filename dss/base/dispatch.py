"""A mode that sees every operation, without torch's compiler, whose import takes a second of every process that enters one."""

from torch.utils._python_dispatch import TorchDispatchMode


class DispatchMode(TorchDispatchMode):
    """`TorchDispatchMode` for modes that no compiled code is run under: the compiler need not be told to leave them alone."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
