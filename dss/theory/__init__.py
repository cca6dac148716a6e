"""Paths, bounds and obstructions that theory gives."""

from dss.theory.disconnection import disconnection_threshold, hidden_orientation
from dss.theory.dropout import dropout_stability
from dss.theory.hidden_layer import HiddenLayerPath, hidden_layer_path
from dss.theory.linear import LinearPath, linear_barrier, linear_path
from dss.theory.linear_ridge import ridge_path

__all__ = [
    "HiddenLayerPath",
    "LinearPath",
    "disconnection_threshold",
    "dropout_stability",
    "hidden_layer_path",
    "hidden_orientation",
    "linear_barrier",
    "linear_path",
    "ridge_path",
]
