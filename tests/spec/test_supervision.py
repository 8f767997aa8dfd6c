"""Supervision: services are processes that are started once, found again, and stopped without touching anything else."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlops_lab.embedded import Service, State, Supervisor
from mlops_lab.embedded.process import MARK, Identity, alive, identify, mark
from mlops_lab.errors import PortInUse, ServiceError, ServiceNotReady, UnknownName, UsageError

linux = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="only Linux shows the environment of a process")

WRITES_READY = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text('ready'); time.sleep(600)"
IGNORES_SIGTERM = (
    "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "pathlib.Path(sys.argv[1]).write_text('ready'); time.sleep(600)"
)
HAS_A_CHILD = (
    "import pathlib, subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    "pathlib.Path(sys.argv[1]).write_text(str(child.pid)); time.sleep(600)"
)
SERVES_HTTP = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 503)
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose services are gone when the test is over, also when it failed."""
    folder = tmp_path / "home"
    folder.mkdir()
    yield folder
    (folder / "services.json").unlink(missing_ok=True)  # what a test has broken must not keep the mark from finding them
    Supervisor(folder).down()


def a_service(home: Path, name: str = "worker", program: str = WRITES_READY, **others: object) -> Service:
    ready = home / f"{name}.ready"
    fields = {"argv": (sys.executable, "-c", program, str(ready)), "address": "", "ready": ready, "ready_s": 30.0, "stop_s": 5.0} | others
    return Service(name=name, **fields)  # type: ignore[arg-type]


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def a_web_service(port: int, name: str = "web", path: str = "/readyz", **others: object) -> Service:
    fields = {"ready_s": 30.0, "stop_s": 5.0} | others
    return Service(
        name=name,
        argv=(sys.executable, "-c", SERVES_HTTP, str(port)),
        address=f"127.0.0.1:{port}",
        ready=f"http://127.0.0.1:{port}{path}",
        **fields,  # type: ignore[arg-type]
    )


def eventually(holds: Callable[[], bool], within_s: float = 20.0) -> bool:
    until = time.monotonic() + within_s
    while not (held := holds()) and time.monotonic() < until:
        time.sleep(0.02)
    return held


@contextlib.contextmanager
def a_stranger() -> Iterator[Identity]:
    """A process that is none of ours."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    identity = identify(process.pid)
    assert identity is not None
    try:
        yield identity
    finally:
        process.kill()
        process.wait()


def test_up_means_that_it_answers(home: Path) -> None:
    port = a_free_port()
    supervisor = Supervisor(home)
    said: list[str] = []

    statuses = supervisor.up([a_service(home), a_web_service(port)], said.append)

    assert [(status.name, status.state) for status in statuses] == [("worker", State.RUNNING), ("web", State.RUNNING)]
    assert statuses[1].address == f"127.0.0.1:{port}"
    assert f"web: ready at 127.0.0.1:{port}" in said


def test_starting_twice_is_starting_once(home: Path) -> None:
    service = a_service(home)
    first = Supervisor(home).up([service])

    second = Supervisor(home).up([service])

    assert second[0].pid == first[0].pid


def test_two_that_start_at_the_same_moment_start_one_process(home: Path) -> None:
    service = a_service(home)
    threads = [threading.Thread(target=Supervisor(home).start, args=(service,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (home / "logs" / "worker.log").read_text().count("start of") == 1


def test_a_service_outlives_the_command_that_started_it_even_a_killed_one(home: Path) -> None:
    service = a_service(home)
    code = (
        "import os, signal, sys; from pathlib import Path; from mlops_lab.embedded import Service, Supervisor;"
        "home, ready = Path(sys.argv[1]), Path(sys.argv[2]);"
        f"Supervisor(home).up([Service('worker', {service.argv!r}, '', ready)]); os.kill(os.getpid(), signal.SIGKILL)"
    )
    starter = subprocess.run([sys.executable, "-c", code, str(home), str(service.ready)], check=False, timeout=60)
    assert starter.returncode == -signal.SIGKILL

    supervisor = Supervisor(home)

    assert supervisor.status([service])[0].state is State.RUNNING
    assert supervisor.start(service) is False
    assert supervisor.down() == ["worker"]


@linux
def test_a_service_that_nobody_wrote_down_is_found_by_its_mark(home: Path) -> None:
    """Whoever starts a service may be killed between the start and the record. The next command neither loses nor doubles it."""
    service = a_service(home)
    supervisor = Supervisor(home)
    first = supervisor.up([service])[0]
    (home / "services.json").unlink()

    found = supervisor.status([service])[0]

    assert (found.state, found.pid) == (State.RUNNING, first.pid)
    assert supervisor.start(service) is False
    assert json.loads((home / "services.json").read_text())["services"]["worker"]["pid"] == first.pid
    (home / "services.json").unlink()
    assert supervisor.down() == ["worker"]
    assert identify(first.pid) is None


def test_down_stops_what_was_started_here_and_nothing_else(home: Path, tmp_path: Path) -> None:
    other_home = tmp_path / "other"
    other_home.mkdir()
    other = Supervisor(other_home)
    with a_stranger() as stranger:
        theirs = other.up([a_service(other_home)])[0]
        ours = Supervisor(home).up([a_service(home, "one"), a_service(home, "two")])

        stopped = Supervisor(home).down()

        assert stopped == ["two", "one"]
        assert [identify(status.pid) for status in ours] == [None, None]
        assert alive(stranger)
        assert other.status()[0].pid == theirs.pid
        assert other.down() == ["worker"]
    assert Supervisor(home).down() == []


def test_a_pid_that_was_handed_out_again_is_never_signalled(home: Path) -> None:
    """The record says a pid; the process that has it now started at another time, so it is somebody else's."""
    supervisor = Supervisor(home)
    supervisor.up([a_service(home)])
    supervisor.down()
    with a_stranger() as stranger:
        record = {"name": "worker", "pid": stranger.pid, "started": "another boot:1", "digest": "0", "address": "", "ready": "x"}
        record |= {"log_from": 0, "stop_s": 1.0, "at": "2013-04-01T00:00:00Z"}
        (home / "services.json").write_text(json.dumps({"services": {"worker": record}}))

        assert supervisor.status()[0].state is State.DEAD
        assert supervisor.down() == []
        assert alive(stranger)
    assert supervisor.status() == []


def test_a_dead_service_is_called_dead_and_started_again(home: Path) -> None:
    service = a_service(home)
    supervisor = Supervisor(home)
    first = supervisor.up([service])[0]
    os.kill(first.pid, signal.SIGKILL)
    assert eventually(lambda: identify(first.pid) is None)

    assert supervisor.status([service])[0].state is State.DEAD
    second = supervisor.up([service])[0]

    assert second.state is State.RUNNING
    assert second.pid != first.pid


@linux
def test_children_of_a_killed_service_do_not_stay_behind(home: Path) -> None:
    service = a_service(home, program=HAS_A_CHILD)
    assert isinstance(service.ready, Path)
    supervisor = Supervisor(home)
    status = supervisor.up([service])[0]
    assert eventually(lambda: (home / "worker.ready").read_text() != "")
    child = identify(int(service.ready.read_text()))
    assert child is not None
    os.kill(status.pid, signal.SIGKILL)
    assert eventually(lambda: identify(status.pid) is None)

    supervisor.down()

    assert not alive(child)


def test_a_service_that_will_not_end_is_killed_in_the_end(home: Path) -> None:
    supervisor = Supervisor(home)
    status = supervisor.up([a_service(home, program=IGNORES_SIGTERM, stop_s=0.2)])[0]

    assert supervisor.down() == ["worker"]

    assert identify(status.pid) is None


def test_a_taken_port_is_named_before_anything_is_started(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]

        with pytest.raises(PortInUse) as refused:
            Supervisor(home).up([a_service(home), a_web_service(port, setting="LAB_SERVING__PORT")])

    assert f"127.0.0.1:{port}" in refused.value.what
    assert "set LAB_SERVING__PORT" in refused.value.next_step
    if Path("/proc").is_dir():
        assert f"pid {os.getpid()}" in refused.value.what
    assert not (home / "services.json").exists()


def test_a_service_that_ends_at_once_is_quoted(home: Path) -> None:
    service = a_service(home, program="raise SystemExit('no such table: ledger')")

    with pytest.raises(ServiceNotReady, match="no such table: ledger") as failed:
        Supervisor(home).up([service])

    assert "logs/worker.log" in failed.value.next_step


def test_the_words_of_an_earlier_start_are_not_quoted(home: Path) -> None:
    supervisor = Supervisor(home)
    for word in ("first failure", "second failure"):
        with pytest.raises(ServiceNotReady) as failed:
            supervisor.up([a_service(home, program=f"raise SystemExit('{word}')")])
    assert "second failure" in failed.value.what
    assert "first failure" not in failed.value.what


def test_a_service_that_never_answers_is_given_up_and_can_be_stopped(home: Path) -> None:
    service = a_web_service(a_free_port(), path="/overloaded", ready_s=0.5)
    supervisor = Supervisor(home)

    with pytest.raises(ServiceNotReady, match=r"not ready within 0.5 s"):
        supervisor.up([service])

    assert supervisor.status([service])[0].state is State.STARTING
    assert supervisor.down() == ["web"]


def test_readiness_of_the_last_run_does_not_count(home: Path) -> None:
    (home / "worker.ready").write_text("of last week")

    with pytest.raises(ServiceNotReady, match="not ready within"):
        Supervisor(home).up([a_service(home, program="import time; time.sleep(600)", ready_s=0.3)])


def test_a_change_of_settings_is_not_overlooked(home: Path) -> None:
    supervisor = Supervisor(home)
    supervisor.up([a_service(home)])

    with pytest.raises(UsageError, match="other settings"):
        supervisor.up([a_service(home, env={"LAB_WINDOW": "daily"})])


def test_a_program_that_is_not_there_is_named(home: Path) -> None:
    with pytest.raises(ServiceError, match="/nowhere/uvicorn"):
        Supervisor(home).start(a_service(home, argv=("/nowhere/uvicorn",)))


def test_what_a_service_needs_is_ready_first(home: Path) -> None:
    first, second = a_service(home, "first"), a_service(home, "second", needs=("first",))
    said: list[str] = []

    Supervisor(home).up([first, second], said.append)

    assert [line.split(",")[0] for line in said[:2]] == ["first: started", "second: started"]
    with pytest.raises(UnknownName, match="frist"):
        Supervisor(home).up([a_service(home, "third", needs=("frist",))])


def test_the_environment_of_a_service_is_ours_plus_its_own(home: Path) -> None:
    program = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(dict(os.environ))); time.sleep(600)"
    service = a_service(home, program=program, env={"LAB_REPLICA": "a"})
    assert isinstance(service.ready, Path)

    Supervisor(home).up([service])

    assert eventually(lambda: "}" in (home / "worker.ready").read_text())
    seen = service.ready.read_text()
    assert "'LAB_REPLICA': 'a'" in seen
    assert f"'{MARK}': '{mark(home.resolve(), 'worker', service.digest())}'" in seen


def test_an_unreadable_list_of_services_is_an_error_with_a_way_out(home: Path) -> None:
    (home / "services.json").write_text('{"services": {"web": {"pid"')

    with pytest.raises(ServiceError, match=r"services\.json cannot be read") as failed:
        Supervisor(home).status()

    assert "delete that file" in failed.value.next_step


@pytest.mark.parametrize("name", ["", "Web", "a/b", "../x"])
def test_a_name_is_also_a_file_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no service name"):
        Service(name=name, argv=("true",), address="", ready=tmp_path)
