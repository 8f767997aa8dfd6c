"""The demo's result as one page that opens anywhere: `write(home, summary)` makes `report.html` from the summary and nothing else."""

from mlops_lab.demo.report.page import FILE, write

__all__ = ["FILE", "write"]
