"""Losses as functions of points, from potentials with known saddles to networks on data."""
