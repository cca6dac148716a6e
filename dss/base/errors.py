"""The exceptions that a caller can meet: one small tree under `ValueError`, and one alarm.

    ValueError
    └── InputError              something that was handed in cannot be used
        ├── CheckpointError     a file of weights: missing, damaged, unsafe, or of another architecture
        ├── RunError            a run folder: missing, incomplete, or already there
        ├── TaskError           a task: unknown, without data, or its own code failed: `__cause__` is what that raised
        └── EnclosureError      a model or loss that cannot be bounded rigorously

    RuntimeError
    └── SoundnessError          a proof that the network itself contradicts: an error of this program

A search that finds nothing raises none of them: failure is a status (`dss.Status`).
"""


class InputError(ValueError):
    """Something that was handed in cannot be used; the message says got, expected and cure."""


class CheckpointError(InputError):
    """A file of weights is missing, damaged, unsafe or of another architecture."""


class RunError(InputError):
    """A run folder is missing, incomplete, or already there."""


class TaskError(InputError):
    """A task is unknown or has no data, or what the user wrote (model, loss, data, metric) raised: `__cause__` holds that."""


class NotFinite(InputError):
    """Points of a path hold NaN or infinity; a search that meets them has diverged."""


class EnclosureError(InputError):
    """A model, loss or objective cannot be bounded rigorously; the message names the operation."""


class SoundnessError(RuntimeError):
    """A loss was computed above a bound that had been proved: no verdict is given, and the message asks for a report."""
