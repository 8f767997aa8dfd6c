"""Every fault by its id, in the order in which they are tried."""

from typing import Any

from mlops_lab.chaos.broker_kills import E1
from mlops_lab.chaos.buses import F4
from mlops_lab.chaos.canaries import F15
from mlops_lab.chaos.clocks import F12
from mlops_lab.chaos.cut_downloads import F3
from mlops_lab.chaos.disks import F8
from mlops_lab.chaos.durability import F7
from mlops_lab.chaos.fault import Fault
from mlops_lab.chaos.hostile import BAD_INPUT
from mlops_lab.chaos.kills import F6
from mlops_lab.chaos.outages import E4
from mlops_lab.chaos.overload import F17
from mlops_lab.chaos.processor_kills import E2, E5
from mlops_lab.chaos.registries import F1
from mlops_lab.chaos.rollbacks import F14
from mlops_lab.chaos.starts import F2
from mlops_lab.chaos.store_losses import E3
from mlops_lab.chaos.swaps import F16
from mlops_lab.chaos.tampering import F5
from mlops_lab.errors import UnknownName

_ALL = (F1, F2, F3, F4, F5, F6, F7, F8, F12, F14, F15, F16, F17, BAD_INPUT, E1, E2, E3, E4, E5)
CATALOGUE: dict[str, Fault[Any]] = {fault.id: fault for fault in _ALL}


def fault_called(name: str) -> Fault[Any]:
    """The fault of an id, in any case. Raises UnknownName, with the near miss."""
    found = {known.lower(): fault for known, fault in CATALOGUE.items()}.get(name.lower())
    if found is None:
        raise UnknownName.of("fault", name, CATALOGUE)
    return found
