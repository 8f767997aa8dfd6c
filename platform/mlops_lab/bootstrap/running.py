"""Whether the services of a home work: on this machine the supervisor knows; in a container of a stack each is asked where it is."""

import os
import time
from pathlib import Path

from mlops_lab.bootstrap.chosen import chosen
from mlops_lab.bootstrap.parts import Part
from mlops_lab.bootstrap.services import FEATURES, INFERENCE, MLFLOW, PREFECT, TRAINER, WATCHER
from mlops_lab.embedded import Supervisor, require_running
from mlops_lab.embedded.ready import is_ready
from mlops_lab.errors import ServiceNotReady
from mlops_lab.settings import Settings

SILENT_S = {WATCHER: 180.0, TRAINER: 900.0, FEATURES: 60.0}
"""Seconds without a sign of life after which a worker counts as gone: it gives none within a piece of work, and a training is a long one.
Watcher and trainer give none either while ledger, bus or tables refuse them, so this is also how long these may be away before the worker
counts as unhealthy. The health checks of the stack's containers say the same."""


def workers_of(settings: Settings) -> tuple[str, ...]:
    """The workers of a home. Where trainings are deployments, Prefect's own worker does what the trainer does elsewhere."""
    trains = (TRAINER,) if settings.orchestration.mode == "workers" else ()
    return (WATCHER, *trains, *(() if chosen(settings).store == "process" else (FEATURES,)))


def follower_of(settings: Settings) -> str:
    """The worker that brings MLflow in line with the ledger."""
    return TRAINER if settings.orchestration.mode == "workers" else WATCHER


def is_inside(settings: Settings) -> bool:
    """Whether this process is in a container of a stack, so that other services are not its machine's processes."""
    return settings.profile == "inside"


def works(settings: Settings, name: str) -> bool:
    """Whether a service of the home lives; of one in another container, whether it says so now."""
    if is_inside(settings):
        return not asked(settings, name).trouble
    return any(status.name == name and status.pid for status in Supervisor(settings.home).status())


def require_works(settings: Settings, name: str) -> None:
    """Go on only while a service of the home lives.

    Raises:
        ServiceNotReady: It does not; the message says where that is looked into.
    """
    if not is_inside(settings):
        require_running(settings.home, name)
        return
    part = asked(settings, name)
    if part.trouble:
        raise ServiceNotReady(part.trouble, part.next)


def require_not_gone(settings: Settings, name: str) -> None:
    """As `require_works`, for who waits already: a container that does not answer is started again by Docker, so only silence for long
    ends the wait. Raises ServiceNotReady."""
    if not is_inside(settings) or name in SILENT_S:
        require_works(settings, name)


def asked(settings: Settings, name: str) -> Part:
    """What a service in another container says: a server by HTTP, a worker by the file that it touches while it goes on.

    Raises:
        KeyError: There is no service of that name.
    """
    if name in SILENT_S:
        return _worker(settings.home, name)
    address, path = {
        INFERENCE: (settings.service.reached_at, "/readyz"),
        MLFLOW: (settings.tracking.uri.removeprefix("http://").rstrip("/"), "/api/2.0/mlflow/experiments/get?experiment_id=0"),
        PREFECT: (os.environ.get("PREFECT_API_URL", "").removeprefix("http://").removesuffix("/api"), "/api/ready"),
    }[name]
    part = Part(name, "server", address)
    if not address:
        variable = {MLFLOW: "LAB_TRACKING__URI", PREFECT: "PREFECT_API_URL"}[name]
        return part._replace(trouble=f"It is not said where {name} is.", next=f"set {variable} to its address.")
    if is_ready(f"http://{address}{path}"):
        return part
    container = {PREFECT: "prefect-server"}.get(name, name)
    return part._replace(
        trouble=f"{container} at {address} does not answer that it is ready.",
        next=f"`docker compose ps {container}` and `docker compose logs {container}` on the host say why.",
    )


def sign_of(home: Path, name: str) -> Path:
    """The file that a worker touches while it gets on. The stream processor writes what it says of itself, and its `.ready` only once."""
    return home / (f"{name}.json" if name == FEATURES else f"{name}.ready")


def _worker(home: Path, name: str) -> Part:
    sign = sign_of(home, name)
    part = Part(name, "worker", str(sign))
    next_step = f"`docker compose ps {name}` and `docker compose logs {name}` on the host say why."
    try:
        age_s = time.time() - sign.stat().st_mtime
    except OSError as error:
        return part._replace(trouble=f"The {name} gave no sign of life yet ({sign}: {error.strerror}).", next=next_step)
    if age_s > SILENT_S[name]:
        return part._replace(trouble=f"The {name} gave its last sign of life {age_s:,.0f} s ago ({sign}).", next=next_step)
    return part._replace(address=f"{sign}, {max(0.0, age_s):.0f} s ago")
