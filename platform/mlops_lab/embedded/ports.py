"""Whether an address is free, and who has it if not."""

import errno
import socket
from pathlib import Path

from mlops_lab.errors import PortInUse, ServiceError


def split(address: str) -> tuple[str, int]:
    """`host:port` as its two parts; brackets of an IPv6 host are taken off. Raises ValueError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"'{address}' is not host:port")
    return host.strip("[]"), int(port)


def taken(address: str) -> bool:
    """Whether somebody listens on the address. Raises ServiceError when this machine does not have the address at all."""
    host, port = split(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that are only winding down do not count
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise ServiceError(
                f"Nothing can listen on {address}: {error.strerror or error}.",
                "use 127.0.0.1 and a port above 1023 for it; `lab doctor` shows all addresses.",
            ) from error
    return False


def require_free(name: str, address: str, setting: str = "") -> None:
    """Raise PortInUse, naming the program that has the port where the system tells, and the way out."""
    if not address or not taken(address):
        return
    port = split(address)[1]
    who = listener(port)
    other = f"choose another port (set {setting})" if setting else "choose another port for it"
    raise PortInUse(
        f"Service '{name}' needs {address}, and {who or 'another program'} listens there already.",
        f"stop that program, or {other}. If it is a platform in another home, `lab down` there.",
    )


def listener(port: int) -> str:
    """Who listens on a TCP port, as `pid 4711 (python -m http.server)`; "" where the system does not tell or will not say."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    proc = Path("/proc")
    for folder in proc.iterdir() if sockets else ():
        if not folder.name.isdigit():
            continue
        try:
            if any(str(link.readlink()) in sockets for link in (folder / "fd").iterdir()):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                return f"pid {folder.name} ({command[:80]})"
        except OSError:  # gone in the meantime, or another user's
            continue
    return ""


def _listening_inodes(port: int) -> set[str]:
    found: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:  # not Linux, or no IPv6
            continue
        for fields in map(str.split, lines):
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:  # 0A is LISTEN
                found.add(fields[9])
    return found
