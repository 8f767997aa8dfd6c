"""Topics as they lie in the embedded bus: straight from its table, so that a mistake in the platform's reader hides nothing."""

import sqlite3
from contextlib import closing
from pathlib import Path

import orjson

from mlops_lab.chaos.streamed import Laid

_WAITS_S = 30.0
_ALL = "SELECT offset, id, type, at, subject, data, traceparent, partition_key FROM message WHERE topic = ? ORDER BY offset"
_RAW = """INSERT INTO message (topic, offset, id, source, type, at, subject, data)
SELECT ?1, MAX(offset) + 1, ?2, '-', '-', '-', '-', ?3 FROM message WHERE topic = ?1"""


def laid_in(file: Path, topic: str) -> list[Laid]:
    """All that lies on a topic, in order."""
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=_WAITS_S)) as db:
        return [_laid(topic, *row) for row in db.execute(_ALL, (topic,))]


def put_raw(file: Path, topic: str, identifier: str, value: str) -> None:
    """Put on a topic what is no event: its data is no JSON."""
    with closing(sqlite3.connect(file, timeout=_WAITS_S)) as db, db:
        db.execute(_RAW, (topic, identifier, value))


def _laid(topic: str, offset: int, identifier: str, kind: str, at: str, subject: str, data: str, traceparent: str, key: str) -> Laid:
    try:
        event = {"id": identifier, "type": kind, "time": at, "subject": subject, "traceparent": traceparent, "data": orjson.loads(data)}
    except orjson.JSONDecodeError:
        return Laid(topic, 0, offset, key or subject, data.encode(), None)
    return Laid(topic, 0, offset, key or subject, orjson.dumps(event), event)
