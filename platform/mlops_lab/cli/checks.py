"""What `lab doctor` looks at. Each check returns what it found and what to do about it; none of them changes anything."""

import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_lab.embedded import Service, State, Status, require_free
from mlops_lab.errors import LabError, PortInUse

GIB = 1024**3
MIB = 1024**2
LATE_S = 60.0
"""Seconds after which a record that is not shipped is worth a look; the watcher ships every few seconds."""
if TYPE_CHECKING:
    from mlops_lab.bootstrap.parts import Part
    from mlops_lab.pipelines.backlog import Backlog
    from mlops_lab.settings import Settings
_FRAMEWORKS = ("deltalake", "evidently", "fastapi", "great_expectations", "mlflow", "pandas", "prefect", "sklearn", "sqlalchemy")


class Health(StrEnum):
    """`ok`; `warn`: it works, but look; `fail`: the platform will not work like this."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `next` is empty when nothing is to be done."""

    name: str
    health: Health
    found: str
    next: str = ""


def python(version: tuple[int, int] = sys.version_info[:2]) -> Check:
    found = f"Python {version[0]}.{version[1]}"
    if (3, 11) <= version < (3, 14):
        return Check("python", Health.OK, found)
    return Check("python", Health.FAIL, found, "use Python 3.11, 3.12 or 3.13: `make clean-env`, then `make install PYTHON=python3.12`.")


def environment(names: Iterable[str] = _FRAMEWORKS) -> Check:
    """Whether the frameworks are installed; they are not imported, which would take half a minute."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if not missing:
        return Check("packages", Health.OK, "every framework of the default stages is installed")
    return Check("packages", Health.FAIL, f"not installed: {', '.join(missing)}", "run `make install`.")


def writable(home: Path) -> Check:
    """Whether a file can be written where the state lives, or would live."""
    folder = _existing(home)
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(b"written by lab doctor")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return Check(
            "home", Health.FAIL, f"{folder} cannot be written: {error.strerror}", "set LAB_HOME to a folder of yours on a local disk."
        )
    return Check("home", Health.OK, f"{home} can be {'written' if folder == home else 'made'}")


def disk(home: Path) -> Check:
    free = shutil.disk_usage(_existing(home)).free / GIB
    way_out = "free some space, or set LAB_HOME to a larger disk; `lab demo` needs about 1 GiB."
    return _amount("disk", free, f"{free:.1f} GiB free at {_existing(home)}", warn_below=3, fail_below=1, way_out=way_out)


def memory(available: float | None = None) -> Check:
    """Args: available: GiB, for tests; asked from the system by default (the limit of a container counts too)."""
    free = _available_memory() if available is None else available
    if free is None:
        return Check("memory", Health.OK, "this system does not say how much is free")
    way_out = "close something; training, tracking and orchestration together need about 2 GiB."
    return _amount("memory", free, f"{free:.1f} GiB available", warn_below=3, fail_below=1, way_out=way_out)


def data(folder: Path, names: Sequence[str]) -> Check:
    missing = [name for name in names if not (folder / name).is_file()]
    if not missing:
        return Check("data", Health.OK, f"{len(names)} files in {folder}")
    return Check("data", Health.FAIL, f"not in {folder}: {', '.join(missing)}", "run `make data`; it needs the package index once.")


def proxy(environ: Mapping[str, str]) -> Check:
    """A proxy that also gets the calls to this machine's own services makes each of them time out."""
    lower = {name.lower(): value for name, value in environ.items()}
    if not (lower.get("http_proxy") or lower.get("all_proxy")):
        return Check("proxy", Health.OK, "no proxy is set for plain HTTP")
    bypassed = {host.strip() for host in lower.get("no_proxy", "").split(",")}
    if "*" in bypassed or {"127.0.0.1", "localhost"} <= bypassed:
        return Check("proxy", Health.OK, "a proxy is set, and this machine's own addresses bypass it")
    return Check("proxy", Health.WARN, "a proxy is set for this machine's own addresses too", "export NO_PROXY=127.0.0.1,localhost")


def ports(services: Sequence[Service], statuses: Sequence[Status]) -> list[Check]:
    """One check for each address that a service needs and does not have yet."""
    ours = {status.name for status in statuses if status.state in (State.RUNNING, State.STARTING)}
    found = []
    for service in services:
        if not service.address:
            continue
        if service.name in ours:
            found.append(Check(f"port of {service.name}", Health.OK, f"{service.address} is in use by the service itself"))
            continue
        try:
            require_free(service.name, service.address, service.setting)
            found.append(Check(f"port of {service.name}", Health.OK, f"{service.address} is free"))
        except LabError as error:
            name = "port" if isinstance(error, PortInUse) else "address"
            found.append(Check(f"{name} of {service.name}", Health.FAIL, error.what, error.next_step))
    return found


def servers(settings: "Settings", model: str) -> list[Check]:
    """One check for the ledger and one for the tables where a setting puts them on a server. The first only reads; the second puts a key
    twice, as the platform itself does before it trusts an object store, and takes it away again."""
    from mlops_lab.bootstrap.followed import LedgerOfServer
    from mlops_lab.bootstrap.packages import place

    said = settings.stores

    def ask_ledger() -> None:
        ledger = LedgerOfServer(said.database, model, said.database_timeout_s, said.database_password_file)
        try:
            ledger.standing()
        finally:
            ledger.close()

    def ask_tables() -> None:
        from mlops_lab.objects.on_s3 import require_conditional_put

        require_conditional_put(place(said.tables, settings))

    asked = [
        ("ledger", said.database, ask_ledger, "the database answers"),
        ("tables", said.tables, ask_tables, "the object store answers, and refuses to overwrite when told so"),
    ]
    found = []
    for name, address, ask, well in asked:
        if address:
            try:
                ask()
                found.append(Check(name, Health.OK, well))
            except LabError as error:
                found.append(Check(name, Health.FAIL, error.what, error.next_step))
    return found


def leftovers(statuses: Sequence[Status]) -> Check:
    """Services that were started and died without `lab down`."""
    dead = [status for status in statuses if status.state is State.DEAD]
    if not dead:
        return Check("leftovers", Health.OK, "no service died unnoticed")
    names = ", ".join(status.name for status in dead)
    return Check(
        "leftovers",
        Health.WARN,
        f"died since the last start: {names}",
        f"read {dead[0].log}; `lab up` starts it again, `lab down` forgets it.",
    )


def parts(found: Sequence["Part"]) -> list[Check]:
    """Whether the event bus and the online store answer."""
    return [
        Check(part.name, Health.FAIL, part.trouble, part.next)
        if part.trouble
        else Check(part.name, Health.OK, f"{part.kind}: {part.address}")
        for part in found
    ]


def shipping(backlogs: Sequence["Backlog"], now: datetime, limit_bytes: int) -> Check:
    """Whether what was answered reaches the tables: how much waits, since when, and what could not be read."""
    if not backlogs:
        return Check("prediction log", Health.OK, "nothing was answered yet")
    waiting = [one for one in backlogs if one.unshipped_bytes]
    size = sum(one.size_bytes for one in backlogs) / MIB
    behind = sum(one.unshipped_bytes for one in backlogs) / MIB
    oldest = min((one.unshipped_since for one in waiting if one.unshipped_since), default=None)
    age_s = (now - oldest).total_seconds() if oldest else 0.0
    found = f"{size:.1f} MiB, of which {behind:.1f} MiB are not shipped" + (f", the oldest for {age_s:.0f} s" if oldest else "")
    if any(one.unshipped_bytes > limit_bytes / 2 for one in backlogs):
        return Check("prediction log", Health.FAIL, found, "start the watcher with `lab up`: at the limit the service answers 503.")
    if age_s > LATE_S:
        return Check("prediction log", Health.WARN, found, "`lab up` starts the watcher, which ships; its log says what holds it up.")
    aside = sum(one.aside for one in backlogs)
    if aside:
        way_out = "`lab history` lists them as incidents; keep them, or delete them once they are looked at."
        return Check("prediction log", Health.WARN, f"{found}; {aside} files hold bytes that could not be read", way_out)
    return Check("prediction log", Health.OK, found)


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _amount(name: str, have: float, found: str, *, warn_below: float, fail_below: float, way_out: str) -> Check:
    if have >= warn_below:
        return Check(name, Health.OK, found)
    return Check(name, Health.FAIL if have < fail_below else Health.WARN, found, way_out)


def _available_memory() -> float | None:
    """GiB that can still be used: what the system has available, or what the container's limit leaves, whichever is less."""
    amounts: list[float] = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                amounts.append(int(line.split()[1]) * 1024 / GIB)
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit.isdigit():
            amounts.append((int(limit) - int(Path("/sys/fs/cgroup/memory.current").read_text())) / GIB)
    except (OSError, ValueError):  # no such file here, which the empty list says
        return min(amounts, default=None)
    return min(amounts, default=None)
