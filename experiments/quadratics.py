"""Quadratic regression (Freeman & Bruna 2017, section 4.1 and table 1, figure 1): `python -m experiments.quadratics`."""

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from experiments.polynomials import Polynomial, main

THRESHOLDS = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.125)


def quadratic(x: Tensor) -> Tensor:
    """The paper's."""
    return 0.5 * x**2 + 0.25 * x + 0.1


STUDY = Polynomial(
    name="quadratics",
    function=quadratic,
    bias=False,
    bounded=True,
    thresholds=THRESHOLDS,
)
QUICK = replace(STUDY, name="quadratics-quick", thresholds=(0.05, 0.1), pairs=3, samples=50)

if __name__ == "__main__":
    main(STUDY, QUICK, Path(__file__).with_suffix(".json"))
