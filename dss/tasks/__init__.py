"""Tasks: a model, its loss and its data, built in or brought by the user."""

from dss.tasks.builtin import BUILTIN
from dss.tasks.loading import load_task
from dss.tasks.source import source_digest
from dss.tasks.task import Task
from dss.tasks.training import train

__all__ = ["BUILTIN", "Task", "load_task", "source_digest", "train"]
