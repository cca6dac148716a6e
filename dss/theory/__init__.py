"""Paths, bounds and obstructions that theory gives."""

from dss.theory.disconnection import disconnection_threshold, hidden_orientation

__all__ = ["disconnection_threshold", "hidden_orientation"]
