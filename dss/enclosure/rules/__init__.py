"""One rule per operation: what it does to a tensor known up to an error. Importing the package registers them all."""

from dss.enclosure.rules import (
    activations,
    arithmetic,
    attention,
    convolutions,
    entropy,
    kinked,
    losses,
    magnitudes,
    means,
    normal,
    products,
    recurrent,
    shapes,
    smooth,
)

__all__ = [
    "activations",
    "arithmetic",
    "attention",
    "convolutions",
    "entropy",
    "kinked",
    "losses",
    "magnitudes",
    "means",
    "normal",
    "products",
    "recurrent",
    "shapes",
    "smooth",
]
