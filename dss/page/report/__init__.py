"""Self-contained pages: of a run, of a plane, of several finders."""

from dss.page.report.compare import write_comparison
from dss.page.report.plane import write_plane
from dss.page.report.write import write_report

__all__ = ["write_comparison", "write_plane", "write_report"]
