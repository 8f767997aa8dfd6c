"""The promises of the platform, each with a fault that tries to break it, and a checker that reads only outside evidence."""

from mlops_lab.chaos.fault import Fault, Finding, Result, Size

__all__ = ["Fault", "Finding", "Result", "Size"]
