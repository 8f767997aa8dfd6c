"""Which versions there are, which one serves, and why."""

from mlops_lab.registry.ledger import Fact, Standing
from mlops_lab.registry.port import Ledger
from mlops_lab.registry.version import Assignment, ModelVersion, Role, State

__all__ = ["Assignment", "Fact", "Ledger", "ModelVersion", "Role", "Standing", "State"]
