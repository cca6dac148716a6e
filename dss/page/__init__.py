"""What people look at: numbers for pictures, figures, and self-contained pages."""

from dss.page import notebook

__all__ = ["notebook"]
