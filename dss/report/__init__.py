"""Self-contained pages: of a run, of a plane, of several finders."""

from dss.report.compare import write_comparison
from dss.report.plane import write_plane
from dss.report.write import write_report

__all__ = ["write_comparison", "write_plane", "write_report"]
