"""Cubic regression (Freeman & Bruna 2017, section 4.1 and table 1, figure 2): `python -m experiments.cubics`.

The normalized length has a spike near L0 = 0.158, the error of the best constant. Other values of alpha and of the
multiplier around it tell whether they make it.
"""

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from experiments.polynomials import Polynomial, main

THRESHOLDS = (
    0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.12, 0.14, 0.15, 0.152, 0.154, 0.156, 0.158, 0.16, 0.162,
    0.164, 0.168, 0.17, 0.18, 0.2, 0.24, 0.32,
)  # fmt: skip
SPIKE = (0.12, 0.14, 0.145, 0.15, 0.152, 0.154, 0.156, 0.158, 0.16, 0.162, 0.164, 0.168, 0.17, 0.175, 0.18, 0.2)


def cubic(x: Tensor) -> Tensor:
    """The paper's."""
    return 8 * x**3 - 10 * x**2 + 3 * x


STUDY = Polynomial(
    name="cubics",
    function=cubic,
    bias=True,
    bounded=False,
    thresholds=THRESHOLDS,
    variants={
        "paper": (0.95, 1.1),
        "strict": (0.95, 1.0),
        "alpha 0.85": (0.85, 1.1),
        "alpha 0.999": (0.999, 1.1),
        "multiplier 1.03": (0.95, 1.03),
        "multiplier 1.2": (0.95, 1.2),
    },
    variant_thresholds=dict.fromkeys(("alpha 0.85", "alpha 0.999", "multiplier 1.03", "multiplier 1.2"), SPIKE),
)
QUICK = replace(STUDY, name="cubics-quick", thresholds=(0.15, 0.17), variants={"paper": (0.95, 1.1)}, pairs=3, samples=50)

if __name__ == "__main__":
    main(STUDY, QUICK, Path(__file__).with_suffix(".json"))
