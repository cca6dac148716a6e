"""The growing string of appendix D (figure 3 of the paper): `python -m experiments.growing_string`.

A quadratic regression's string along the three principal axes of its final beads, coloured by the logarithm of the loss, with
its shadows on the walls. One page with a slider and a play button, and one still page per round, go into `runs/`.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

import dss
from experiments.polynomials import Polynomial, study_of
from experiments.quadratics import STUDY

THRESHOLD, PAIR = 0.01, 0
FOLDER = Path(__file__).parent / "runs"


def growth(polynomial: Polynomial, threshold: float, pair: int) -> tuple[dss.Problem, list[dss.Step]]:
    """Every state of the strict search between one pair of ends."""
    study = study_of(polynomial)
    problem = study.problems(threshold)[pair]
    return problem, list(study.finders["strict"].steps(problem))


def pictures(problem: dss.Problem, steps: Sequence[dss.Step]) -> dss.figures.StringPicture:
    """The last string and those before it, on the axes of the last."""
    history = [(f"round {step.round}", dss.figures.describe(step.path), step.path) for step in steps[:-1]]
    return dss.figures.picture_string(steps[-1].path, problem.judge, threshold=problem.threshold, history=history)


def write(picture: dss.figures.StringPicture, folder: Path) -> list[Path]:
    """The animation, and one still per string."""
    folder.mkdir(exist_ok=True)
    pages = {"growing-string": dss.figures.string_in_space(picture)}
    pages |= {
        f"growing-string-{i}": dss.figures.string_in_space(picture, shown=i, controls=False) for i in range(len(picture.strings))
    }
    for name, figure in pages.items():
        if name != "growing-string":
            figure.frames = []
        figure.write_html(folder / f"{name}.html", include_plotlyjs=True, config={"displayModeBar": False})
    return [folder / f"{name}.html" for name in pages]


if __name__ == "__main__":
    torch.set_num_threads(1)
    for page in write(pictures(*growth(STUDY, THRESHOLD, PAIR)), FOLDER):
        print(page)
