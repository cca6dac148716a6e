"""The version, in one place for the package and its installation."""

__version__ = "0.2.0"
