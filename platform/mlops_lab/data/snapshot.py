"""A batch as it arrives, and the record that it was accepted: the record is what makes its rows count."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import pandas as pd

from mlops_lab.clock import from_iso, iso
from mlops_lab.data.digest import of_tables


@dataclass(frozen=True)
class Batch:
    """Tables that arrived together, judged together, and accepted or refused together.

    Attributes:
        name: What people call it, such as `2013-04`; unique among the accepted ones.
        start: Event time of its first moment, aware, UTC.
        end: Event time behind its last moment.
        tables: Rows by table name. Not to be changed afterwards: the digest is computed once.
    """

    name: str
    start: datetime
    end: datetime
    tables: Mapping[str, pd.DataFrame]

    @cached_property
    def digest(self) -> str:
        """Content digest of tables and span; row order and the name do not count."""
        span = pd.DataFrame({"start": [iso(self.start)], "end": [iso(self.end)]})
        return of_tables({**self.tables, "(span)": span})

    @property
    def rows(self) -> dict[str, int]:
        """Rows per table."""
        return {name: len(frame) for name, frame in self.tables.items()}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An accepted batch.

    Attributes:
        id: The first twelve characters of the digest.
        batch: The batch's name.
        digest: The batch's content digest; every stored row of it carries this.
        table_versions: Version of each table in which the rows are, all of them.
        rows: Rows per table.
        start: Event time of the batch's first moment.
        end: Event time behind its last moment.
        accepted_at: Event time of the acceptance.
    """

    id: str
    batch: str
    digest: str
    table_versions: dict[str, int]
    rows: dict[str, int]
    start: datetime
    end: datetime
    accepted_at: datetime

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, for the record."""
        return {
            "id": self.id,
            "batch": self.batch,
            "digest": self.digest,
            "table_versions": dict(self.table_versions),
            "rows": dict(self.rows),
            "start": iso(self.start),
            "end": iso(self.end),
            "accepted_at": iso(self.accepted_at),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Snapshot":
        """The inverse of `to_dict`. Raises KeyError or ValueError where it is not one."""
        return cls(
            id=str(values["id"]),
            batch=str(values["batch"]),
            digest=str(values["digest"]),
            table_versions={str(table): int(version) for table, version in values["table_versions"].items()},
            rows={str(table): int(count) for table, count in values["rows"].items()},
            start=from_iso(values["start"]),
            end=from_iso(values["end"]),
            accepted_at=from_iso(values["accepted_at"]),
        )
