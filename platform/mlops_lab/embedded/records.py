"""What was started, in `services.json`, and the lock that lets one command at a time change it."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from mlops_lab.clock import from_iso
from mlops_lab.embedded.process import Identity
from mlops_lab.errors import HomeInUse, ServiceError


@dataclass(frozen=True, slots=True)
class Record:
    """One started service. `log_from` is where in its log, in bytes, this start begins; `at` is ISO 8601; `ready` a URL or a path."""

    name: str
    pid: int
    started: str
    digest: str
    address: str
    ready: str
    log_from: int
    stop_s: float
    at: str

    @property
    def identity(self) -> Identity:
        return Identity(self.pid, self.started)

    @property
    def since(self) -> datetime:
        return from_iso(self.at)


class Records:
    """`<home>/services.json`, replaced as a whole: a reader sees the file before or after a change, never half of it."""

    def __init__(self, home: Path) -> None:
        self._path = home / "services.json"
        self._lock = home / "services.lock"

    def read(self) -> dict[str, Record]:
        """The records in the order of their start; empty when nothing was started. Raises ServiceError when the file is not ours."""
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return {}
        try:
            return {name: Record(**fields) for name, fields in json.loads(text)["services"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServiceError(
                f"{self._path} cannot be read as the list of started services: {type(error).__name__} {error}.",
                "delete that file, then run `lab status`: services that still run are found by the mark they carry (on Linux).",
            ) from error

    def write(self, records: Mapping[str, Record]) -> None:
        fresh = self._path.with_suffix(".json.new")
        with fresh.open("w") as file:
            json.dump({"services": {name: asdict(record) for name, record in records.items()}}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)

    @contextlib.contextmanager
    def changing(self, patience_s: float = 30.0) -> Iterator[None]:
        """Keep others from starting and stopping. The kernel lets go of the lock when the holder dies. Raises HomeInUse."""
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("w") as file:
            until = time.monotonic() + patience_s
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > until:
                        raise HomeInUse(
                            f"Another command is starting or stopping services in {self._lock.parent}.",
                            "wait until it is done, then try again; `lab status` shows how far it is.",
                        ) from error
                    time.sleep(0.05)
            yield
