"""One rule per operation: what it does to a tensor known up to an error. Importing the package registers them all."""

from dss.enclosure.rules import (
    arithmetic,
    attention,
    convolutions,
    entropy,
    kinked,
    losses,
    normal,
    products,
    recurrent,
    shapes,
    smooth,
)

__all__ = [
    "arithmetic",
    "attention",
    "convolutions",
    "entropy",
    "kinked",
    "losses",
    "normal",
    "products",
    "recurrent",
    "shapes",
    "smooth",
]
