"""One self-contained page from a run folder."""

from dss.report.write import write_report

__all__ = ["write_report"]
