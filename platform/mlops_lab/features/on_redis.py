"""Rows of the online table on Redis, as Feast writes them, and how far the stream is in."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from time import monotonic

import hiredis

from mlops_lab.errors import FeatureStoreUnreachable
from mlops_lab.features import progress
from mlops_lab.features.breaker import Breaker
from mlops_lab.features.feast_layout import PROJECT, Layout, from_value_proto
from mlops_lab.features.on_redis_connection import Connection, bulk, pack
from mlops_lab.features.redis_address import Address
from mlops_lab.features.rows import Progress, Reading, RowRef

_FIRST_S = 1.0
_KEYS_KEPT = 65_536
_KEEPS = "noeviction"


class RedisRows:
    """Implements `RowReader`. Used from one thread; connecting is another's.

    A read costs a turn at most the deadline; when it fails, those behind it cost nothing until the connection is there again.
    """

    def __init__(self, address: Address, layout: Layout, deadline_s: float = 0.02) -> None:
        self._address = address
        self._layout = layout
        self._deadline_s = deadline_s
        self._fields = {view: bulk(layout.redis_field(view)) for view in layout.views}
        self._packed_key = lru_cache(_KEYS_KEPT)(self._pack_key)
        self._progress_command = pack(("GET", progress_key(layout.project)))
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
        return bulk(self._layout.redis_key(ref))

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
