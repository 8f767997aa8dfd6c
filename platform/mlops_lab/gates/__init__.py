"""What data must be like before it may go on, and who says whether it is."""

from mlops_lab.gates.expectation import Expectation
from mlops_lab.gates.in_memory import PandasGate
from mlops_lab.gates.port import Gate, require
from mlops_lab.gates.report import html
from mlops_lab.gates.verdict import Finding, Verdict

__all__ = ["Expectation", "Finding", "Gate", "PandasGate", "Verdict", "html", "require"]
