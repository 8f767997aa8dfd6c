"""What the window shows: skill on arrived labels, movement of inputs and answers. It measures; `retraining` decides."""

from mlops_lab.monitoring.drift import ColumnDrift, Drift, Method, Watched, plan
from mlops_lab.monitoring.interval import Interval
from mlops_lab.monitoring.port import DriftReport
from mlops_lab.monitoring.skill import Performance, paired_loss, performance
from mlops_lab.monitoring.window import LABEL_GRACE, Window

__all__ = [
    "LABEL_GRACE",
    "ColumnDrift",
    "Drift",
    "DriftReport",
    "Interval",
    "Method",
    "Performance",
    "Watched",
    "Window",
    "paired_loss",
    "performance",
    "plan",
]
