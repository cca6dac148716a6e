"""Activations: smooth but for their second derivative, or made of others."""

import math
from functools import partial

import torch
import torch.nn.functional as F

from dss.base.errors import EnclosureError
from dss.enclosure.registry import rule
from dss.enclosure.rules.arithmetic import add, multiply, subtract
from dss.enclosure.rules.curves import COSINE, ERF, EXP, LOG, SIGMOID, SOFTPLUS, TANH, Curve, rising
from dss.enclosure.rules.kinked import clamp, leaky_relu, relu
from dss.enclosure.rules.smooth import apply
from dss.enclosure.value import Enclosure, lift

# Taylor's remainder is an integral over s'', which may jump: what lies between its values counts.
ELU = Curve(
    F.elu, lambda x: torch.exp(x.clamp(max=0.0)), lambda x: torch.where(x > 0, 0.0, torch.exp(x.clamp(max=0.0))),
    turns=((0.0, 0.0), (0.0, 1.0)), scale=1.0, span=rising(F.elu),
)  # fmt: skip
SOFTSIGN = Curve(
    F.softsign, lambda x: (1 + x.abs()) ** -2, lambda x: -2 * x.sign() * (1 + x.abs()) ** -3,
    turns=((0.0, -2.0), (0.0, 2.0)), scale=2.0, span=rising(F.softsign),
)  # fmt: skip
ARCTAN = Curve(
    torch.atan, lambda x: 1 / (1 + x * x), lambda x: -2 * x / (1 + x * x) ** 2,
    turns=((-0.5773502692, 0.6495190529), (0.5773502692, -0.6495190529)), scale=0.7, span=rising(torch.atan),
    third=lambda x: (6 * x * x - 2) / (1 + x * x) ** 3, third_turns=((-1.0, 0.5), (0.0, -2.0), (1.0, 0.5)),
)  # fmt: skip

for _name, _curve in {
    "softsign": SOFTSIGN,
    "atan": ARCTAN,
    "arctan": ARCTAN,
    "cos": COSINE,
    "special_expit": SIGMOID,
    "special_erf": ERF,
}.items():
    rule(_name)(partial(apply, _curve))


@rule("elu")
def elu(x, alpha: float = 1.0) -> Enclosure:
    """a elu(x) + (1 - a) relu(x) of the one with a = 1, which has no kink."""
    smooth = apply(ELU, x)
    return smooth if alpha == 1 else smooth * alpha + relu(x) * (1 - alpha)


@rule("selu")
def selu(x) -> Enclosure:
    """A scaled `elu` (Klambauer et al. 2017)."""
    return elu(x, 1.6732632423543772848) * 1.0507009873554804934


@rule("celu")
def celu(x, alpha: float = 1.0) -> Enclosure:
    """a elu(x / a)."""
    if alpha <= 0:
        raise EnclosureError(f"no rule encloses celu with alpha={alpha}; positive ones have one")
    return apply(ELU, lift(x) * (1 / alpha)) * alpha


@rule("mish")
def mish(x) -> Enclosure:
    """x tanh(softplus(x))."""
    return x * apply(TANH, apply(SOFTPLUS, x))


@rule("hardsigmoid")
def hardsigmoid(x) -> Enclosure:
    """min(max(x / 6 + 1/2, 0), 1)."""
    return clamp(x * (1 / 6) + 0.5, 0.0, 1.0)


@rule("hardswish")
def hardswish(x) -> Enclosure:
    """x hardsigmoid(x)."""
    return x * hardsigmoid(x)


@rule("tanhshrink")
def tanhshrink(x) -> Enclosure:
    """x - tanh(x)."""
    return x - apply(TANH, x)


@rule("prelu")
def prelu(x, weight) -> Enclosure:
    """relu(x) - w relu(-x), with one w or one for each channel."""
    x, weight = lift(x), lift(weight)
    if weight.dim() and weight.shape[0] > 1 and x.dim() > 1:
        weight = weight.reshape(-1, *[1] * (x.dim() - 2))
    return relu(x) - relu(-x) * weight


@rule("glu")
def glu(x, dim: int = -1) -> Enclosure:
    """One half times the sigmoid of the other."""
    one, other = x.chunk(2, dim)
    return one * apply(SIGMOID, other)


@rule("clamp_min")
def clamp_min(x, min) -> Enclosure:
    """From below."""
    return clamp(x, min)


@rule("clamp_max")
def clamp_max(x, max) -> Enclosure:
    """From above."""
    return clamp(x, None, max)


@rule("sin")
def sin(x) -> Enclosure:
    """cos(x - pi/2)."""
    return apply(COSINE, lift(x) - math.pi / 2)


@rule("log1p", "special_log1p")
def log1p(x) -> Enclosure:
    """log(1 + x)."""
    return apply(LOG, lift(x) + 1)


@rule("expm1", "special_expm1")
def expm1(x) -> Enclosure:
    """exp(x) - 1."""
    return apply(EXP, x) - 1


@rule("exp2", "special_exp2")
def exp2(x) -> Enclosure:
    """exp(x log 2)."""
    return apply(EXP, lift(x) * math.log(2))


@rule("log2")
def log2(x) -> Enclosure:
    """log(x) / log 2."""
    return apply(LOG, x) * (1 / math.log(2))


@rule("log10")
def log10(x) -> Enclosure:
    """log(x) / log 10."""
    return apply(LOG, x) * (1 / math.log(10))


@rule("__rpow__")
def power_of_number(exponent, base) -> Enclosure:
    """exp(x log b) for a number b > 0."""
    if not isinstance(base, (int, float)) or base <= 0:
        raise EnclosureError(f"no rule encloses powers of {base!r}; positive numbers have one")
    return apply(EXP, lift(exponent) * math.log(base))


@rule("logaddexp")
def logaddexp(x, y) -> Enclosure:
    """x + softplus(y - x)."""
    return lift(x) + apply(SOFTPLUS, lift(y) - x)


@rule("lerp")
def lerp(x, end, weight) -> Enclosure:
    """x + w (end - x)."""
    return add(x, multiply(subtract(end, x), weight))


@rule("addcmul")
def addcmul(x, first, second, *, value: float = 1) -> Enclosure:
    """x + v a b."""
    return add(x, multiply(multiply(first, second), value))


@rule("addcdiv")
def addcdiv(x, first, second, *, value: float = 1) -> Enclosure:
    """x + v a / b."""
    return add(x, (lift(first) / second) * value)


@rule("erfc", "special_erfc")
def erfc(x) -> Enclosure:
    """1 - erf(x)."""
    return 1 - apply(ERF, x)


@rule("softshrink")
def softshrink(x, lambd: float = 0.5) -> Enclosure:
    """x - min(max(x, -l), l)."""
    return lift(x) - clamp(x, -lambd, lambd)


@rule("rrelu")
def rrelu(x, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False) -> Enclosure:
    """In eval a leaky ReLU."""
    if training:
        raise EnclosureError("rrelu draws at random in train mode; put the model in eval()")
    return leaky_relu(x, (lower + upper) / 2)


@rule("sinh")
def sinh(x) -> Enclosure:
    """(exp(x) - exp(-x)) / 2."""
    return (apply(EXP, x) - apply(EXP, -lift(x))) * 0.5


@rule("cosh")
def cosh(x) -> Enclosure:
    """(exp(x) + exp(-x)) / 2."""
    return (apply(EXP, x) + apply(EXP, -lift(x))) * 0.5


@rule("logit", "special_logit")
def logit(x, eps: float | None = None) -> Enclosure:
    """log(x) - log(1 - x)."""
    x = lift(x) if eps is None else clamp(x, eps, 1 - eps)
    return apply(LOG, x) - apply(LOG, 1 - x)


@rule("logaddexp2")
def logaddexp2(x, y) -> Enclosure:
    """`logaddexp` to the base 2."""
    return logaddexp(lift(x) * math.log(2), lift(y) * math.log(2)) * (1 / math.log(2))
