"""The broker that is killed. It is somebody else's program: who calls gives a command that starts it and a file with its pid."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlops_lab.chaos.cannot_prove import CannotProve

_GONE_S = 10.0
_STARTS_S = 120.0


@dataclass(frozen=True)
class Broker:
    """One broker on this machine, of one node.

    Attributes:
        servers: Its address, host:port.
        start_command: Starts it on the data that it had, for a shell; returns when it answers. Again changes nothing.
        pid_file: Where its pid stands while it runs.
        variables: The LAB_EVENTS__ variables by which it is spoken to.
    """

    servers: str
    start_command: str
    pid_file: Path
    variables: Mapping[str, str]

    def start(self) -> float:
        """Start it, and wait until it answers.

        Returns:
            Seconds that it took.

        Raises:
            CannotProve: The command failed, or nobody answers then.
        """
        began = time.monotonic()
        try:
            # Its output goes to a file: a broker that outlives the command would hold a pipe open.
            done = subprocess.run(
                self.start_command,
                shell=True,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_STARTS_S,
            )
        except subprocess.TimeoutExpired:
            raise self._wrong(f"`{self.start_command}` did not return within {_STARTS_S:.0f} s") from None
        if done.returncode != 0:
            raise self._wrong(f"`{self.start_command}` left with {done.returncode}")
        if not self.answers():
            raise self._wrong(f"`{self.start_command}` returned, and nobody answers at {self.servers}")
        return time.monotonic() - began

    def kill(self) -> None:
        """`kill -9`. Raises CannotProve unless it is gone with that."""
        os.kill(self._pid(), signal.SIGKILL)
        until = time.monotonic() + _GONE_S
        while self.answers():
            if time.monotonic() > until:
                raise self._wrong(f"the process that {self.pid_file} names was killed, and {self.servers} still answers")
            time.sleep(0.01)

    def answers(self) -> bool:
        """Whether its port is open."""
        host, _, port = self.servers.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=1.0).close()
            return True
        except OSError:
            return False

    def _pid(self) -> int:
        try:
            return int(self.pid_file.read_text())
        except (OSError, ValueError) as error:
            raise self._wrong(f"{self.pid_file} does not say which process it is ({error})") from error

    def _wrong(self, why: str) -> CannotProve:
        return CannotProve(f"The broker cannot be tried: {why}.", BROKER_WANTED)


BROKER_WANTED = (
    "give --broker 'COMMAND', which starts one broker of this machine on the data it had and returns when it answers, "
    "--broker-pid FILE with its pid, and LAB_EVENTS__KAFKA=127.0.0.1:PORT. It will be killed."
)
