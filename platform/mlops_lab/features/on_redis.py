"""Rows of the online table on Redis, as Feast writes them. A plain socket and hiredis: a deadline holds for a whole round trip.

The `redis` package waits for each part of a reply anew, and its import takes the serving process longer than all of its own.
"""

import socket
import ssl
from collections.abc import Iterable, Sequence
from functools import lru_cache
from time import monotonic

import hiredis

from mlops_lab.errors import FeatureStoreUnreachable
from mlops_lab.features import progress
from mlops_lab.features.breaker import Breaker
from mlops_lab.features.feast_layout import PROJECT, Layout, from_value_proto
from mlops_lab.features.redis_address import Address
from mlops_lab.features.rows import Progress, Reading, RowRef

_DIAL_S = 1.0
_FIRST_S = 1.0
_KEYS_KEPT = 65_536
_KEEPS = "noeviction"
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
        reply = self.many(_pack(command), 1, until)[0]
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


class RedisRows:
    """Implements `RowReader`. Used from one thread; connecting is another's.

    A read costs a turn at most the deadline; when it fails, those behind it cost nothing until the connection is there again.
    """

    def __init__(self, address: Address, layout: Layout, deadline_s: float = 0.02) -> None:
        self._address = address
        self._layout = layout
        self._deadline_s = deadline_s
        self._fields = {view: _bulk(layout.redis_field(view)) for view in layout.views}
        self._packed_key = lru_cache(_KEYS_KEPT)(self._pack_key)
        self._progress_command = _pack(("GET", progress_key(layout.project)))
        self._progress: tuple[object, Progress | None] = (None, None)
        self._connection: Connection | None = None
        self._breaker = Breaker(self._connect, str(address))
        self._waited = False

    def read(self, wanted: Sequence[RowRef]) -> Reading:
        connection = self._connected()
        commands, places = self._packed(wanted)
        try:
            replies = connection.many(commands, len(places) + 1, monotonic() + self._deadline_s)
            said = self._said(replies[0])
        except FeatureStoreUnreachable as error:
            self._connection = None
            connection.close()
            self._breaker.open(error)
            raise
        rows: list[bytes | None] = [None] * len(wanted)
        unusable = 0
        for mine, reply in zip(places, replies[1:], strict=True):
            if type(reply) is not list:
                unusable += len(mine)  # another type under the key, or a command that this user may not give
                continue
            for place, value in zip(mine, reply, strict=True):
                if value is not None:
                    try:
                        rows[place] = from_value_proto(value)
                    except ValueError:
                        unusable += 1
        return Reading(rows, said, unusable)

    def progress(self) -> Progress | None:
        return self.read(()).progress

    def close(self) -> None:
        """End the connection, and trying."""
        self._breaker.end()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connected(self) -> Connection:
        if not self._waited:
            self._waited = True
            self._breaker.wait(_FIRST_S)
        self._breaker.require()
        assert self._connection is not None
        return self._connection

    def _connect(self) -> None:
        """By the breaker's thread. A connection is handed over when it answers within the deadline that it will have."""
        connection = Connection(self._address)
        try:
            connection.one(("PING",), monotonic() + self._deadline_s)
        except FeatureStoreUnreachable:
            connection.close()
            raise
        self._connection = connection

    def _packed(self, wanted: Sequence[RowRef]) -> tuple[bytes, list[list[int]]]:
        """One command for the progress, then one for each entity with the fields of its views; and where the values belong."""
        entities: dict[bytes, list[int]] = {}
        packed_key = self._packed_key
        for place, ref in enumerate(wanted):
            entities.setdefault(packed_key(ref), []).append(place)
        parts = [self._progress_command]
        for key, places in entities.items():
            parts += (b"*%d\r\n$5\r\nHMGET\r\n" % (len(places) + 2), key)
            parts += [self._fields[wanted[place].view] for place in places]
        return b"".join(parts), list(entities.values())

    def _pack_key(self, ref: RowRef) -> bytes:
        return _bulk(self._layout.redis_key(ref))

    def _said(self, reply: object) -> Progress | None:
        """Raises FeatureStoreUnreachable for a Redis that answers nothing: it is loading, or wants credentials."""
        if reply == self._progress[0]:
            return self._progress[1]
        if isinstance(reply, hiredis.ReplyError):
            if str(reply).startswith("WRONGTYPE"):
                return None
            reason = "credentials" if str(reply).startswith(("NOAUTH", "NOPERM")) else "reply"
            raise FeatureStoreUnreachable.at(str(self._address), f"it says '{reply}'", reason)
        self._progress = (reply, progress.from_json(reply if isinstance(reply, bytes) else None))
        return self._progress[1]


class RedisProgress:
    """How far the stream is in, beside the rows, for those who write them. Connects anew when the connection was lost."""

    def __init__(self, address: Address, project: str = PROJECT, timeout_s: float = 10.0) -> None:
        self._address = address
        self._key = progress_key(project)
        self._timeout_s = timeout_s
        self._connection: Connection | None = None

    def write(self, said: Progress) -> None:
        """Call this after the rows are written. Raises FeatureStoreUnreachable."""
        self._call(("SET", self._key, progress.to_json(said)))

    def read(self) -> Progress | None:
        """What was written last; None where nobody has, and for what is none of ours. Raises FeatureStoreUnreachable."""
        found = self._call(("GET", self._key))
        return progress.from_json(found if isinstance(found, bytes) else None)

    def evicts(self) -> str:
        """The policy by which it drops rows when its memory is full, such as `allkeys-lru`; empty where it drops none, or where this user
        may not ask. Raises FeatureStoreUnreachable.
        """
        try:
            found = self._call(("INFO", "memory"))
        except FeatureStoreUnreachable as error:
            if error.reason == "credentials":
                return ""
            raise
        told = dict(line.partition(":")[::2] for line in bytes(found).decode().splitlines()) if isinstance(found, bytes) else {}
        policy = told.get("maxmemory_policy", _KEEPS)
        return "" if policy == _KEEPS else policy

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _call(self, command: Iterable[str | bytes]) -> object:
        until = monotonic() + self._timeout_s
        if self._connection is None:
            self._connection = Connection(self._address, self._timeout_s)
        try:
            return self._connection.one(tuple(command), until)
        except FeatureStoreUnreachable:
            self.close()
            raise


def progress_key(project: str) -> str:
    """Key of the progress."""
    return f"lab:features:{project}:progress"


def _pack(command: Iterable[str | bytes]) -> bytes:
    words = [word.encode() if isinstance(word, str) else word for word in command]
    return b"*%d\r\n" % len(words) + b"".join(map(_bulk, words))


def _bulk(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)
