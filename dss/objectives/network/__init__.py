"""A model, its loss and its data as an `Objective`."""

from dss.objectives.network.objective import NetworkObjective

__all__ = ["NetworkObjective"]
