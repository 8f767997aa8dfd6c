"""What a service is before it runs, and what can be said of it afterwards. Values only."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")


@dataclass(frozen=True, slots=True)
class Service:
    """One long-running process of the platform.

    Attributes:
        name: Lower case, digits and dashes; also the name of its log.
        argv: Program and arguments; the program by its absolute path.
        address: `host:port` that it listens on, or "" when it listens on none.
        ready: A URL that answers 2xx, or a file that it writes, once the service does its work. The file is removed before a start,
            so that one left by an earlier run cannot be mistaken for readiness.
        env: Set on top of this process's environment. Not recorded anywhere but as part of a digest.
        needs: Names of services that have to be ready before this one is started.
        setting: The environment variable that moves `address` elsewhere, for the message when the port is taken.
        ready_s: Seconds until readiness is given up on.
        stop_s: Seconds between the polite signal and the last one.
    """

    name: str
    argv: tuple[str, ...]
    address: str
    ready: str | Path
    env: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    setting: str = ""
    ready_s: float = 90.0
    stop_s: float = 10.0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"'{self.name}' is no service name: lower case letters, digits and dashes")
        if not self.argv:
            raise ValueError(f"service '{self.name}' has no program to run")
        if isinstance(self.ready, str) and not self.ready.startswith(("http://", "https://")):
            raise ValueError(f"service '{self.name}': ready is a URL or a Path, not '{self.ready}'")

    def digest(self) -> str:
        """Twelve hex digits over everything that decides how the process runs: the same digest means that no restart is needed."""
        said = [self.name, list(self.argv), self.address, str(self.ready), sorted(self.env.items())]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]


class State(StrEnum):
    """What a service is doing.

    `running` answers; `starting` lives and does not answer, yet or any more; `dead` was started and is gone; `stopped` was not started.
    """

    RUNNING = "running"
    STARTING = "starting"
    DEAD = "dead"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Status:
    """One service as it is now. `pid` is 0 when there is no process; `since` is wall time of its start."""

    name: str
    state: State
    address: str
    pid: int
    since: datetime | None
    log: Path
