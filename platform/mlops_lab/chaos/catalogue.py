"""Every fault of the service by its id, in the order in which they are tried."""

from typing import Any

from mlops_lab.chaos.disks import F8
from mlops_lab.chaos.fault import Fault
from mlops_lab.chaos.kills import F6
from mlops_lab.chaos.registries import F1
from mlops_lab.chaos.swaps import F16
from mlops_lab.errors import UnknownName

CATALOGUE: dict[str, Fault[Any]] = {fault.id: fault for fault in (F1, F6, F8, F16)}


def fault_called(name: str) -> Fault[Any]:
    """The fault of an id, in any case. Raises UnknownName, with the near miss."""
    found = {known.lower(): fault for known, fault in CATALOGUE.items()}.get(name.lower())
    if found is None:
        raise UnknownName.of("fault", name, CATALOGUE)
    return found
