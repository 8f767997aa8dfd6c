"""How Feast 0.67 lays rows out in its online tables, so that they are read without Feast. Pure: bytes in, bytes out.

Held to Feast itself by tests/adapters/test_feast_layout.py. Source: Feast's docs/specs/online_store_format.md, entity keys of version 3.
"""

import struct
from collections.abc import Iterable
from functools import lru_cache

import mmh3

from mlops_lab.features.rows import RowRef, RowView, components_of

PROJECT = "mlops_lab"
"""Feast's name for all that is ours; part of each key and table name."""

ENTITY_KEY_VERSION = 3

_STRING = 2  # feast.types.ValueType.STRING
_U32 = struct.Struct("<I")
_TWO_U32 = struct.Struct("<II")
_BYTES_VAL = 0x0A  # of ValueProto: field 1, length-delimited
_KEYS_KEPT = 65_536


class Layout:
    """Where the rows of a use case's views are."""

    def __init__(self, views: Iterable[RowView], project: str = PROJECT) -> None:
        self.project = project
        self.views = {view.name: view for view in views}
        self._suffix = project.encode()
        self._prefixes = {name: _prefix(view.join_keys) for name, view in self.views.items()}
        self._orders = {name: _order(view.join_keys) for name, view in self.views.items()}
        self.entity_key = lru_cache(_KEYS_KEPT)(self._entity_key)

    def _entity_key(self, ref: RowRef) -> bytes:
        """The serialized entity key. Views that share their join keys share it. Raises KeyError for a view that is not ours."""
        order = self._orders[ref.view]
        if len(order) != len(ref.key):
            raise ValueError(f"{ref.view} is keyed by {self.views[ref.view].join_keys}, not by {ref.key}")
        parts = [self._prefixes[ref.view]]
        for place in order:
            value = ref.key[place].encode()
            parts += (_TWO_U32.pack(_STRING, len(value)), value)
        return b"".join(parts)

    def redis_key(self, ref: RowRef) -> bytes:
        """Key of the hash that holds an entity's rows of all views."""
        return self.entity_key(ref) + self._suffix

    def redis_field(self, view: str) -> bytes:
        """Field of that hash with the row of one view, 4 bytes."""
        return _U32.pack(mmh3.hash(f"{view}:{components_of(view)}", signed=False))

    def sqlite_table(self, view: str) -> str:
        """Quoted name of the table of a view: columns `entity_key`, `feature_name`, `value`, `event_ts`, `created_ts` and more."""
        return '"' + f"{self.project}_{view}".replace('"', '""') + '"'


def to_value_proto(row: bytes) -> bytes:
    """A row as a serialized `ValueProto` with `bytes_val`."""
    length, head = len(row), bytearray((_BYTES_VAL,))
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + row


def from_value_proto(value: bytes) -> bytes | None:
    """The row in a serialized `ValueProto`; None for one that holds nothing. Raises ValueError for one that holds something else."""
    size = len(value)
    if not size:
        return None
    if value[0] == _BYTES_VAL and size > 1:
        head, length, shift = 1, value[1], 7
        if length > 0x7F:  # a varint: seven bits in each byte, the lowest first, the highest bit set in all but the last
            length &= 0x7F
            while (head := head + 1) < size:
                length |= (value[head] & 0x7F) << shift
                shift += 7
                if value[head] < 0x80:
                    break
        if length == size - head - 1:
            return value[head + 1 :]
    raise ValueError(f"{size} bytes that begin with {value[:8].hex()} hold no row")


def _order(join_keys: tuple[str, ...]) -> tuple[int, ...]:
    """Feast sorts the parts of a key by the name of their join key."""
    return tuple(sorted(range(len(join_keys)), key=join_keys.__getitem__))


def _prefix(join_keys: tuple[str, ...]) -> bytes:
    names = [name.encode() for name in sorted(join_keys)]
    return _U32.pack(len(names)) + b"".join(_TWO_U32.pack(_STRING, len(name)) + name for name in names)
