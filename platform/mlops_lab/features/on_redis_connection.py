"""A connection to Redis: a plain socket and hiredis, so that a deadline holds for a whole round trip.

The `redis` package waits for each part of a reply anew, and its import takes the serving process longer than all of its own.
"""

import socket
import ssl
from collections.abc import Iterable, Sequence
from time import monotonic

import hiredis

from mlops_lab.errors import FeatureStoreUnreachable
from mlops_lab.features.redis_address import Address

_DIAL_S = 1.0
_WAITS = object()  # what hiredis says while a reply is not complete


class Connection:
    """One connection, used from one thread at a time. Whatever goes wrong on it, it is of no use afterwards."""

    def __init__(self, address: Address, within_s: float = _DIAL_S) -> None:
        """Connect, and show the credentials. Raises FeatureStoreUnreachable."""
        self._address = address
        self._parser = hiredis.Reader(notEnoughData=_WAITS)
        self._buffer = bytearray(256 * 1024)
        until = monotonic() + within_s
        try:
            self._socket = socket.create_connection((address.host, address.port), within_s)
        except OSError as error:
            raise self._failed(error, "it cannot be connected to", "refused") from error
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if address.tls:
                self._socket = ssl.create_default_context().wrap_socket(self._socket, server_hostname=address.host)
            commands: list[tuple[str | bytes, ...]] = []
            if password := address.secret():
                commands.append(("AUTH", address.user, password) if address.user else ("AUTH", password))
            commands += [("SELECT", str(address.database)), ("PING",)]
            for command in commands:
                self.one(command, until)
        except OSError as error:
            self.close()
            raise self._failed(error, "it cannot be connected to", "refused") from error
        except FeatureStoreUnreachable:
            self.close()
            raise

    def one(self, command: Sequence[str | bytes], until: float) -> object:
        """The reply to one command. Raises FeatureStoreUnreachable for one that says that it failed, too."""
        reply = self.many(pack(command), 1, until)[0]
        if isinstance(reply, hiredis.ReplyError):
            said = str(reply)
            word = said.partition(" ")[0]
            wrong = word in ("NOAUTH", "WRONGPASS", "NOPERM") or "AUTH" in said
            raise FeatureStoreUnreachable.at(str(self._address), f"it says '{said}'", "credentials" if wrong else "reply")
        return reply

    def many(self, commands: bytes, replies: int, until: float) -> list[object]:
        """Send packed commands and collect their replies, errors among them.

        Raises:
            FeatureStoreUnreachable: Not all were there when `monotonic` reached `until`.
        """
        found: list[object] = []
        parser, sock = self._parser, self._socket
        try:
            sock.settimeout(max(until - monotonic(), 1e-4))
            sock.sendall(commands)
            while True:
                while (reply := parser.gets()) is not _WAITS:
                    found.append(reply)
                    if len(found) == replies:
                        return found
                if (left_s := until - monotonic()) <= 0:
                    raise TimeoutError
                sock.settimeout(left_s)
                size = sock.recv_into(self._buffer)
                if size == 0:
                    raise ConnectionResetError("it closed the connection")
                parser.feed(self._buffer, 0, size)  # type: ignore[arg-type]  # any buffer will do
        except (OSError, hiredis.ProtocolError) as error:
            raise self._failed(error, "the connection was lost", "lost") from error

    def close(self) -> None:
        self._socket.close()

    def _failed(self, error: Exception, what: str, reason: str) -> FeatureStoreUnreachable:
        where = str(self._address)
        if isinstance(error, TimeoutError):
            return FeatureStoreUnreachable.at(where, "no answer in time", "timeout")
        if isinstance(error, hiredis.ProtocolError):
            return FeatureStoreUnreachable.at(where, f"what it sends is not Redis ({error})", "reply")
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return FeatureStoreUnreachable.at(where, f"{what} ({why})", reason)


def pack(command: Iterable[str | bytes]) -> bytes:
    """A command as it travels."""
    words = [word.encode() if isinstance(word, str) else word for word in command]
    return b"*%d\r\n" % len(words) + b"".join(map(bulk, words))


def bulk(word: bytes) -> bytes:
    """A word of a command as it travels."""
    return b"$%d\r\n%b\r\n" % (len(word), word)
