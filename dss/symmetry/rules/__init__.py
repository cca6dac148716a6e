"""How each ATen operation unifies the axes of its operands, and which axes its results have.

A rule has to unify at least what the operation ties together: with too little, a permutation would change the outputs
(which the numeric check finds); with too much, only symmetries are lost.
"""

from dss.symmetry.rules import contractions, elementwise, indexing, normalisation, reductions, shapes, windows

__all__ = ["contractions", "elementwise", "indexing", "normalisation", "reductions", "shapes", "windows"]
