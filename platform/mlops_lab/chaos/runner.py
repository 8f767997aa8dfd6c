"""Tries faults one after the other, each in a home of its own."""

import shutil
import time
from collections.abc import Iterator, Sequence
from typing import Any

from mlops_lab.chaos.broker import BROKER_WANTED, Broker
from mlops_lab.chaos.cannot_prove import CannotProve
from mlops_lab.chaos.fault import Fault, Finding, Result, Size
from mlops_lab.chaos.world import World
from mlops_lab.errors import LabError


def require_tools(faults: Sequence[Fault[Any]], broker: Broker | None = None) -> None:
    """Before anything is started. Raises CannotProve where a program is missing, or the broker."""
    for fault in faults:
        if fault.kills_broker and broker is None:
            raise CannotProve(f"{fault.id} ({fault.title}) needs a broker that may be killed.", BROKER_WANTED)
        for program in fault.needs:
            if shutil.which(program) is None:
                raise CannotProve(
                    f"{fault.id} ({fault.title}) needs {program}, which is not on this machine.",
                    f"install it (`apt-get install {program}`), or name the faults to try: `lab chaos F6`.",
                )


def prove(faults: Sequence[Fault[Any]], world: World, seed: int, size: Size) -> Iterator[Result]:
    """Yield each result as it falls. What stops a fault from being tried counts as a promise that did not hold."""
    for fault in faults:
        began = time.monotonic()
        try:
            finding = fault.prove(world, seed, size)
        except (LabError, OSError, AssertionError, LookupError, ValueError) as error:
            finding = Finding("could not be tried to its end", (f"{type(error).__name__}: {error}",))
        yield Result(fault.id, size, seed, round(time.monotonic() - began, 1), finding)
