"""All that a container of the stack works with, each asked within seconds: bus, stores, servers, workers. Nothing is changed."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from mlops_lab.bootstrap.followed import LedgerOfServer
from mlops_lab.bootstrap.lab import Lab
from mlops_lab.bootstrap.packages import place
from mlops_lab.bootstrap.parts import PATIENCE_S, Part, parts_of
from mlops_lab.bootstrap.running import asked, workers_of
from mlops_lab.bootstrap.services import INFERENCE, MLFLOW, PREFECT
from mlops_lab.errors import LabError
from mlops_lab.events import CONTROL


def parts_inside(lab: Lab) -> list[Part]:
    """Every part with its address and, where it does not answer, why. Raises SettingsWrong."""
    settings = lab.settings
    events, features = parts_of(settings)
    found = [events if events.trouble else _tried(events, lambda: lab.bus.head(CONTROL)), features]
    said = settings.stores
    if said.database:
        found.append(_tried(Part("database", "postgresql", said.database.rpartition("@")[2]), lambda: _ask_ledger(lab)))
    for name, address in (("tables", said.tables), ("packages", said.packages)):
        if address:
            found.append(_tried(Part(name, "s3", f"{address} at {said.s3_endpoint or 'Amazon S3'}"), partial(_ask_objects, lab, address)))
    return found + [asked(settings, name) for name in (MLFLOW, PREFECT, INFERENCE, *workers_of(settings))]


def _tried(part: Part, ask: Callable[[], object]) -> Part:
    try:
        ask()
    except LabError as error:
        return part._replace(trouble=error.what, next=error.next_step)
    return part


def _ask_ledger(lab: Lab) -> None:
    said = lab.settings.stores
    ledger = LedgerOfServer(said.database, lab.model, said.database_timeout_s, said.database_password_file)
    try:
        ledger.standing()
    finally:
        ledger.close()


def _ask_objects(lab: Lab, address: str) -> None:
    from mlops_lab.objects.on_s3 import require_readable

    require_readable(replace(place(address, lab.settings), timeout_s=PATIENCE_S))
