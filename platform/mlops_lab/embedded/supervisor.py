"""Start, wait, stop and ask after the services of one home. No process stays behind to supervise: the files and the kernel remember."""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mlops_lab.clock import Clock, WallClock, iso
from mlops_lab.embedded import process
from mlops_lab.embedded.ports import require_free
from mlops_lab.embedded.ready import is_ready, log_tail
from mlops_lab.embedded.records import Record, Records
from mlops_lab.embedded.service import Service, State, Status
from mlops_lab.errors import ServiceError, ServiceNotReady, UnknownName, UsageError

Progress = Callable[[str], None]
_POLL_S = 0.05
_LOG_LIMIT = 8 * 1024 * 1024


def _silent(_: str) -> None:
    return None


class Supervisor:
    """The services of one home. Every method may be called from any process, at any time, again."""

    def __init__(self, home: Path, clock: Clock | None = None) -> None:
        self.home = home.resolve()
        self._clock = clock or WallClock()
        self._records = Records(self.home)

    def up(self, services: Sequence[Service], progress: Progress = _silent) -> list[Status]:
        """Start what does not run, in the order given, and wait until all are ready.

        Raises: PortInUse before anything was started; UsageError for a service that runs with other settings; ServiceNotReady.
        """
        by_name = {service.name: service for service in services}
        with self._records.changing():
            records = self._known()
            for service in services:
                if not self._runs_as_asked(service, records):
                    self._require_port(service)
        for service in services:
            for needed in service.needs:
                if needed not in by_name:
                    raise UnknownName.of("service", needed, by_name)
                self.wait_ready(by_name[needed])
            progress(f"{service.name}: {'started' if self.start(service) else 'already there'}, its log is {self.log(service.name)}")
        for service in services:
            self.wait_ready(service)
            progress(f"{service.name}: ready{' at ' + service.address if service.address else ''}")
        return self.status(services)

    def start(self, service: Service) -> bool:
        """Start one service in a session of its own. False when it already runs. It is not waited for: see `wait_ready`.

        Raises: PortInUse; UsageError when it runs with other settings; ServiceError when its program cannot be run.
        """
        with self._records.changing():
            records = self._known()
            if self._runs_as_asked(service, records):
                adopted = replace(records[service.name], address=service.address, ready=str(service.ready), stop_s=service.stop_s)
                self._records.write(records | {service.name: adopted})
                return False
            self._end(service.name, None, service.stop_s)  # children that outlived a dead one may hold its port and its files
            self._require_port(service)
            log = self._open_log(service)
            log_from = log.stat().st_size
            if isinstance(service.ready, Path):
                service.ready.unlink(missing_ok=True)
            mark = process.mark(self.home, service.name, service.digest())
            env = {"PYTHONUNBUFFERED": "1"} | dict(os.environ) | dict(service.env) | {process.MARK: mark}
            try:
                identity = process.spawn(service.argv, env, log)
            except OSError as error:
                raise ServiceError(
                    f"Service '{service.name}' cannot be started: {service.argv[0]}: {error.strerror}.",
                    "run `make install` to complete the environment, then `lab up` again.",
                ) from error
            records.pop(service.name, None)  # written at the end again: `down` goes backwards
            records[service.name] = Record(
                service.name,
                identity.pid,
                identity.started,
                service.digest(),
                service.address,
                str(service.ready),
                log_from,
                service.stop_s,
                iso(self._clock.now()),
            )
            self._records.write(records)
        return True

    def wait_ready(self, service: Service) -> None:
        """Wait until a started service is ready. Raises ServiceNotReady with the end of its log when it died or takes too long."""
        record = self._known().get(service.name)
        log = self.log(service.name)
        until = time.monotonic() + service.ready_s
        while record is not None and process.alive(record.identity):
            if is_ready(service.ready):
                return
            if time.monotonic() > until:
                raise ServiceNotReady(
                    f"Service '{service.name}' lives but was not ready within {service.ready_s:g} s ({service.ready}). Its last words:\n"
                    f"{log_tail(log, record.log_from)}",
                    f"read {log}; `lab down` stops what was started.",
                )
            time.sleep(_POLL_S)
        said = log_tail(log, record.log_from) if record else "    (it was never started)"
        raise ServiceNotReady(
            f"Service '{service.name}' ended before it was ready. Its last words:\n{said}",
            f"read {log}, repair what it names, then `lab up` again; `lab doctor` looks for the usual causes.",
        )

    def stop(self, name: str) -> bool:
        """Stop one service and its children, politely, then not. False when nothing of it ran; a dead one is forgotten."""
        with self._records.changing():
            return self._stop(name, self._known())

    def down(self, progress: Progress = _silent) -> list[str]:
        """Stop all services of this home, last started first, and nothing else. Returns the names of those that ran."""
        stopped = []
        with self._records.changing():
            records = self._known()
            orphans = sorted({found.name for found in process.marked(self.home)} - set(records))
            for name in reversed([*records, *orphans]):
                if self._stop(name, records):
                    stopped.append(name)
                    progress(f"{name}: stopped")
        return stopped

    def status(self, services: Sequence[Service] = ()) -> list[Status]:
        """Every service asked for, in that order, then every other one that was started in this home."""
        records = self._known()
        asked = {service.name: service for service in services}
        return [self._status(name, records.get(name), asked.get(name)) for name in [*asked, *(n for n in records if n not in asked)]]

    def log(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"

    def _status(self, name: str, record: Record | None, service: Service | None) -> Status:
        if record is None:
            return Status(name, State.STOPPED, service.address if service else "", 0, None, self.log(name))
        if not process.alive(record.identity):
            return Status(name, State.DEAD, record.address, 0, record.since, self.log(name))
        said = str(service.ready) if service else record.ready
        ready: str | Path = said if said.startswith("http") else Path(said)
        state = State.RUNNING if said and is_ready(ready) else State.STARTING
        return Status(name, state, record.address, record.pid, record.since, self.log(name))

    def _known(self) -> dict[str, Record]:
        """What is written down, and what runs with our mark although it is not: whoever started that died before it could."""
        records = self._records.read()
        for found in process.marked(self.home):
            record = records.get(found.name)
            if found.leads and (record is None or not process.alive(record.identity)):
                identity = found.identity
                at = iso(self._clock.now())
                records[found.name] = Record(found.name, identity.pid, identity.started, found.digest, "", "", 0, 10.0, at)
        return records

    def _runs_as_asked(self, service: Service, records: Mapping[str, Record]) -> bool:
        record = records.get(service.name)
        if record is None or not process.alive(record.identity):
            return False
        if record.digest != service.digest():
            raise UsageError(
                f"Service '{service.name}' (pid {record.pid}) runs with other settings than the present ones.",
                "run `lab down`, then `lab up`, or take the change of settings back.",
            )
        return True

    def _require_port(self, service: Service) -> None:
        # A child of an earlier start may still listen while its parent is dead; `start` ends it before it looks again.
        if not any(found.name == service.name for found in process.marked(self.home)):
            require_free(service.name, service.address, service.setting)

    def _open_log(self, service: Service) -> Path:
        log = self.log(service.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > _LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
        with log.open("a") as file:
            file.write(f"--- {iso(self._clock.now())} start of {' '.join(service.argv)}\n")
        return log

    def _stop(self, name: str, records: dict[str, Record]) -> bool:
        """Stop one and write down that it is gone; the lock is held."""
        record = records.get(name)
        ended = self._end(name, record.identity if record else None, record.stop_s if record else 10.0)
        records.pop(name, None)
        self._records.write(records)
        return ended

    def _end(self, name: str, leader: process.Identity | None, stop_s: float) -> bool:
        """End the leader and everything that carries its mark. The leader is asked first: it knows how to end its children."""
        asked: set[process.Identity] = set()
        started = time.monotonic()
        while living := self._living(name, leader):
            late_s = time.monotonic() - started - stop_s
            if late_s > 10:
                pids = ", ".join(str(identity.pid) for identity in living)
                raise ServiceError(
                    f"Service '{name}' does not end (pid {pids}).", f"read {self.log(name)}; look at it with `ps -fp {pids}`."
                )
            if late_s > 0:
                if leader is not None:
                    process.signal_group(leader, signal.SIGKILL)
                for identity in living:
                    process.signal_one(identity, signal.SIGKILL)
            for identity in [leader] if leader in living else living:
                if identity is not None and identity not in asked:
                    process.signal_one(identity, signal.SIGTERM)
                    asked.add(identity)
            time.sleep(_POLL_S)
        return bool(asked)

    def _living(self, name: str, leader: process.Identity | None) -> list[process.Identity]:
        found = {marked.identity for marked in process.marked(self.home) if marked.name == name}
        if leader is not None and process.alive(leader):
            found.add(leader)
        return sorted(found, key=lambda identity: identity.pid)


def require_running(home: Path, name: str) -> None:
    """Go on only while a service of a home lives.

    Raises:
        ServiceNotReady: It was not started, or it died; its log says why.
    """
    supervisor = Supervisor(home)
    state = next((status.state for status in supervisor.status() if status.name == name), State.STOPPED)
    if state in (State.STOPPED, State.DEAD):
        raise ServiceNotReady(f"The {name} of {home} is {state}.", f"start it with `lab up`; its log is {supervisor.log(name)}.")
