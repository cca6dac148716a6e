"""`dss train`: an end point for a task."""

import argparse
from pathlib import Path

from dss.adapters import save_state
from dss.base.files import check_writable
from dss.cli.answers import answer
from dss.cli.progress import meter
from dss.tasks import load_task, train


def add(commands: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = commands.add_parser("train", help="train an end point for a task")
    parser.add_argument("task", metavar="TASK", help="digits, quadratics, cubics, fashion, file.py:name or package.module:name")
    parser.add_argument("--out", required=True, type=Path, help="where the weights go: .pt or .safetensors")
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights, dropout and order of samples")
    parser.add_argument("--epochs", type=int, help="passes over the training data (default: the task's)")
    parser.add_argument("--lr", type=float, help="Adam's rate (default: the task's)")
    parser.add_argument("--target", type=float, help="stop as soon as the judged loss is at most this")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train, save, print the judged loss."""
    check_writable(options.out, overwrite=options.overwrite)
    task = load_task(options.task, seed=options.seed).read()
    epochs = options.epochs or task.epochs
    with meter(options).stage(f"training {task.name}, seed {options.seed}", "epochs") as stage:
        stage.expect(epochs)
        for epoch in train(task, seed=options.seed, epochs=epochs, learning_rate=options.lr):
            stage.report(epoch.number, f"loss {epoch.loss:.4g}")
            if options.target is not None and task.judged_loss(epoch.model) <= options.target:
                break
    loss = task.judged_loss(epoch.model)
    save_state(options.out, epoch.model.state_dict())
    figures = {"out": str(options.out), "task": options.task, "seed": options.seed, "epochs": epoch.number, "judged_loss": loss}
    answer(options, figures, f"{options.out}: {task.name}, seed {options.seed}, {epoch.number} epochs, judged loss {loss:.6g}")
    return 0
