"""A PostgreSQL of the tests' own, from the programs that are installed here: theirs to restart, to freeze and to lose."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

ROLE, PASSWORD, DATABASE = "lab", "only-for-tests", "lab"


class NoPostgres(Exception):
    """The programs are not here."""


def programs() -> Path:
    """The folder of initdb and postgres. Raises NoPostgres."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if not folders:
        raise NoPostgres
    return folders[0]


class Cluster:
    """One server on 127.0.0.1 with an empty database; `stop` leaves nothing behind."""

    def __init__(self) -> None:
        self._programs = programs()
        self._user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
        self._folder = Path(tempfile.mkdtemp(prefix="lab-pg-"))
        if self._user:
            shutil.chown(self._folder, self._user)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._run(
            "initdb", "-D", str(self._folder / "data"), "-U", "admin", "--auth-local=trust", "--auth-host=scram-sha-256", "-E", "UTF8", "-N"
        )
        self._server: subprocess.Popen[bytes] | None = None
        self.start()
        self.sql(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'", f"CREATE DATABASE {DATABASE} OWNER {ROLE}")

    @property
    def url(self) -> str:
        return self.url_of(ROLE, PASSWORD)

    def url_of(self, role: str, password: str, database: str = DATABASE, port: int | None = None) -> str:
        return f"postgresql://{role}:{password}@127.0.0.1:{port or self.port}/{database}"

    def start(self) -> None:
        """Until it answers."""
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data"), "-p", str(self.port), "-k", str(self._folder)]
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen([*command, "-c", "listen_addresses=127.0.0.1"], stdout=log, stderr=log, user=self._user)
        for _ in range(300):
            if self._run("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), check=False) == 0:
                return
            time.sleep(0.1)
        raise AssertionError((self._folder / "log").read_text())

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends every connection and comes back in order; SIGQUIT is a crash, and the log is replayed."""
        self.end(how)
        self.start()

    def end(self, how: signal.Signals = signal.SIGINT) -> None:
        if self._server is not None:
            self._server.send_signal(how)
            self._server.wait(timeout=60)
            self._server = None

    def signal_all(self, what: signal.Signals) -> None:
        """To the server and each process of a connection: SIGSTOP makes a server that is there and says nothing."""
        assert self._server is not None
        children = Path(f"/proc/{self._server.pid}/task/{self._server.pid}/children").read_text().split()
        for pid in (self._server.pid, *map(int, children)):
            os.kill(pid, what)

    def sql(self, *statements: str, database: str = "postgres") -> None:
        """As administrator, over the socket."""
        said = [part for statement in statements for part in ("-c", statement)]
        self._run(
            "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", str(self._folder), "-p", str(self.port), "-U", "admin", "-d", database, *said
        )

    def put(self, name: str, content: str) -> Path:
        """A file that the server's user may read too."""
        path = self._folder / name
        path.write_text(content)
        if self._user:
            shutil.chown(path, self._user)
        path.chmod(0o600)
        return path

    def file(self, path: Path, database: str, **variables: str) -> None:
        """Run a file of statements as administrator."""
        said = [part for name, value in variables.items() for part in ("-v", f"{name}={value}")]
        where = ("-h", str(self._folder), "-p", str(self.port), "-U", "admin", "-d", database)
        self._run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *where, *said, "-f", "-", text=path.read_text())

    def stop(self) -> None:
        self.end()
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: str, check: bool = True, text: str = "") -> int:
        done = subprocess.run(
            [str(self._programs / program), *arguments], user=self._user, capture_output=True, text=True, check=False, input=text, cwd="/"
        )
        assert not check or done.returncode == 0, done.stderr
        return done.returncode
