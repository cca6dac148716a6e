"""`dss tasks`: what can be named with `--task`."""

import argparse
import inspect

from dss.base.errors import InputError
from dss.cli.answers import answer
from dss.tasks import BUILTIN
from dss.tasks.builtin import AT_HAND
from dss.tasks.data import DATA_VARIABLE

OWN = """Your own is a function in a file, named as file.py:name or package.module:name, that returns

    dss.Task(model=MyNet(), loss=torch.nn.functional.cross_entropy, train=(x, y), judge=(x_test, y_test))

`model` is any nn.Module; `train` and `judge` are (inputs, target) tensors, a Dataset or a DataLoader; `judge` is the training
data if left out. More fields: judge_loss, metrics, perplexity, batch_size, epochs, learning_rate, name (see dss.Task)."""


def add(commands: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = commands.add_parser("tasks", help="the built-in tasks with their sizes, and what a task file needs")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """List them; a task whose data are not at hand says so."""
    rows = [described(name) for name in BUILTIN]
    answer(options, rows, "\n".join([*map(_lines, rows), f"\n{OWN}"]))
    return 0


def _lines(row: dict[str, object]) -> str:
    """A task for people."""
    size = row["missing"] or f"{row['parameters']:,} parameters, {row['train']:,} training and {row['judge']:,} judging samples"
    return f"{row['name']:<12} {row['what']}\n{'':<12} {size}"


def described(name: str) -> dict[str, object]:
    """One built-in task: what it is and how large, without asking the network for its data."""
    row: dict[str, object] = {
        "name": name,
        "what": inspect.getdoc(BUILTIN[name]),
        "missing": None,
        "parameters": None,
        "train": None,
        "judge": None,
    }
    if name in AT_HAND and not AT_HAND[name]():
        return row | {"missing": f"not at hand: OpenML is asked for its data at use, unless {DATA_VARIABLE} names their folder"}
    try:
        task = BUILTIN[name]()
        train, judge = task.objectives(buffers="frozen")
    except InputError as error:
        return row | {"missing": f"not at hand: {' '.join(str(error).split())}"}
    return row | {"parameters": task.space.size, "train": train.samples, "judge": judge.samples}
