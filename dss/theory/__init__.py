"""Paths, bounds and obstructions that theory gives."""

from dss.theory.disconnection import disconnection_threshold, hidden_orientation
from dss.theory.linear import LinearPath, linear_barrier, linear_path
from dss.theory.linear_ridge import ridge_path

__all__ = ["LinearPath", "disconnection_threshold", "hidden_orientation", "linear_barrier", "linear_path", "ridge_path"]
