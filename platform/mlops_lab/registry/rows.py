"""Values of the ledger as rows of plain numbers and texts, and back; and rows compared with what the audit says of them."""

import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from mlops_lab.audit import canonical
from mlops_lab.clock import from_iso, iso
from mlops_lab.registry.ledger import Fact
from mlops_lab.registry.version import Assignment, ModelVersion, Role

Row = dict[str, int | float | str | None]

_MOMENTS = frozenset({"at", "recorded_at", "trained_until", "registered_at"})


def to_row(value: ModelVersion | Assignment | Fact) -> Row:
    """One column per field: times as ISO 8601, objects as canonical JSON."""
    row: Row = {}
    for each in fields(value):
        content = getattr(value, each.name)
        if isinstance(content, datetime):
            row[each.name] = iso(content)
        elif isinstance(content, Mapping):
            row[each.name] = canonical(dict(content))
        else:
            row[each.name] = str(content) if isinstance(content, Role) else content
    return row


def version_from(row: Mapping[str, Any]) -> ModelVersion:
    return ModelVersion(**_fields_of(ModelVersion, row))


def assignment_from(row: Mapping[str, Any]) -> Assignment:
    return Assignment(**{**_fields_of(Assignment, row), "role": Role(row["role"])})


def fact_from(row: Mapping[str, Any]) -> Fact:
    return Fact(**{**_fields_of(Fact, row), "body": json.loads(row["body"])})


def compare(rows: Mapping[str, str], audited: Mapping[str, str]) -> list[str]:
    """What the rows of a database and the audit do not agree on.

    Args:
        rows: Digest of every row that is there, by the name the audit gives it, such as `row:fact/12`.
        audited: Digest of every row that was ever recorded, by the same names.

    Returns:
        A sentence per row that was edited, added or removed behind the audit's back; empty when there is none.
    """
    found = []
    for name in sorted(rows.keys() | audited.keys()):
        what = name.removeprefix("row:")
        if name not in audited:
            found.append(f"{what} is in the database, but no audit entry recorded it.")
        elif name not in rows:
            found.append(f"{what} was recorded, but is not in the database any more.")
        elif rows[name] != audited[name]:
            found.append(f"{what} does not have the content that was recorded.")
    return found


def _fields_of(kind: type[ModelVersion] | type[Assignment] | type[Fact], row: Mapping[str, Any]) -> dict[str, Any]:
    names = [each.name for each in fields(kind)]
    return {name: from_iso(row[name]) if name in _MOMENTS else row[name] for name in names}
