"""Find a task by name: built in, or `file.py:name`, or `package.module:name`."""

import importlib
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import torch

from dss.base.errors import InputError, TaskError
from dss.base.randomness import seeded
from dss.tasks.builtin import BUILTIN
from dss.tasks.task import Task


def load_task(name: str, *, seed: int | None = None, draws: int | None = None) -> Task:
    """The task of that name; a function that yields one is called.

    Args:
        name: a built-in name, `path/to/file.py:name` or `package.module:name`.
        seed: initialise the model from this seed.
        draws: seed of whatever else is drawn at random, unseeded data above all; `seed` or 0 by default.

    Raises:
        TaskError: unknown name, a file that raises, or an object that is no task.
    """
    draws = (seed or 0) if draws is None else draws
    with seeded(draws):
        found = BUILTIN.get(name) or _user_object(name)
        task = found if isinstance(found, Task) else _call(name, found)
        if seed is not None and isinstance(found, Task):
            torch.manual_seed(seed)
            _initialise(name, task)
    return replace(task, seed=draws, origin=name)


def _user_object(name: str) -> object:
    """The function or object that a user's name points at."""
    place, colon, attribute = name.rpartition(":")
    if not colon:
        raise TaskError(
            f"there is no task {name!r}; built in are {', '.join(BUILTIN)}; your own is path/to/file.py:name or "
            "package.module:name"
        )
    module = _file_module(Path(place)) if place.endswith(".py") else _named_module(place)
    if not hasattr(module, attribute):
        raise TaskError(f"{place} has no {attribute!r}; it must name a function or object that yields a dss.Task")
    return getattr(module, attribute)


def _file_module(path: Path) -> ModuleType:
    if not path.is_file():
        raise TaskError(f"there is no task file {path}")
    spec = importlib.util.spec_from_file_location(f"dss_task_{path.stem}", path)
    assert spec is not None and spec.loader is not None, "a .py file always has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickling look a module up by its name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise TaskError(f"{path} raises when it is read: {_words(error)}") from error
    return module


def _named_module(place: str) -> ModuleType:
    try:
        return importlib.import_module(place)
    except Exception as error:
        raise TaskError(f"the module {place} cannot be imported: {_words(error)}") from error


def _call(name: str, function: object) -> Task:
    """Call the user's function; whatever it raises is told in one line."""
    if not callable(function):
        raise TaskError(f"{name} is a {type(function).__name__}; a dss.Task, or a function that returns one, is needed")
    try:
        task = function()
    except InputError:
        raise
    except Exception as error:
        raise TaskError(f"the task {name} raises when it is built: {_words(error)}") from error
    if not isinstance(task, Task):
        raise TaskError(f"the task {name} yields a {type(task).__name__}; a dss.Task is needed")
    return task


def _initialise(name: str, task: Task) -> None:
    """Draw the model's parameters anew; every layer that has any must know how."""
    for path, module in task.model.named_modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
        elif next(module.parameters(recurse=False), None) is not None:
            raise TaskError(
                f"{name} is one fixed object and its layer {path or type(module).__name__} has no reset_parameters; "
                "name a function that builds the task, so that every seed gets its own model"
            )


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".replace("\n", " ")
