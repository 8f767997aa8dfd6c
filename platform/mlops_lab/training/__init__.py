"""From accepted rows to a measured model. What needs pandas (`rows`, `port`, `export`) is imported by its module name only,
because later stages, and with them the serving process, import this menu."""

from mlops_lab.training.bootstrap import Interval
from mlops_lab.training.evaluate import Evaluation, SliceMeasure, evaluate
from mlops_lab.training.recipe import Recipe

__all__ = ["Evaluation", "Interval", "Recipe", "SliceMeasure", "evaluate"]
