"""Every row of the ledger is accounted for: who wrote it and why is on the record, and a change behind it is named."""

from pathlib import Path

import pytest
from sqlalchemy import text

from ledger_builders import AT, a_ledger, approved, promote
from mlops_lab.events.on_sql import writing
from mlops_lab.registry.on_sql import SqlLedger


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE assignment SET version = 2 WHERE id = 1", "assignment/1 does not have the content that was recorded."),
        ("UPDATE assignment SET at = '2013-01-01T00:00:00Z' WHERE id = 2", "assignment/2 does not have the content that was recorded."),
        ("DELETE FROM assignment WHERE id = 2", "assignment/2 was recorded, but is not in the database any more."),
        (
            "INSERT INTO assignment SELECT 3, model, role, 2, 1, 2, weight, at, recorded_at, by, why, kind FROM assignment WHERE id = 2",
            "assignment/3 is in the database, but no audit entry recorded it.",
        ),
        ('UPDATE fact SET body = \'{"outcome":"keep"}\' WHERE id = 1', "fact/1 does not have the content that was recorded."),
        ("DELETE FROM fact WHERE id = 2", "fact/2 was recorded, but is not in the database any more."),
        (
            "UPDATE model_version SET scorer_sha256 = 'f00d' WHERE number = 1",
            "model_version/flight-delay/1 does not have the content that was recorded.",
        ),
        (
            "UPDATE model_version SET added_by = 'x' WHERE number = 1",
            "model_version/flight-delay/1 does not have the content that was recorded.",
        ),
        ("UPDATE outbox SET event = '{}' WHERE position = 2", "outbox/2 does not have the content that was recorded."),
    ],
)
def test_a_row_changed_behind_the_audits_back_is_named(ledger: SqlLedger, statement: str, found: str) -> None:
    approved(ledger, 1, 2)
    promote(ledger, 1)
    promote(ledger, 2)
    assert ledger.unaccounted() == []

    with writing(ledger._engine) as connection:
        connection.execute(text(statement.replace(":", r"\:")))

    assert ledger.unaccounted() == [found]
    assert ledger._trail.verify() is None


def test_every_write_leaves_an_entry_with_its_actor_and_reason(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    approved(ledger, 1, 2)
    for number in (1, 2):
        promote(ledger, number)
    ledger.rollback(AT, "watch", "worse by 0.01")

    told = [(entry.action, entry.subject, entry.actor, entry.reason) for entry in ledger._trail.entries()]
    assert told[:4] == [
        ("ModelRegistered", "flight-delay/1", "trainer", "retrain"),
        ("VersionJudged", "flight-delay/1", "judge", "Brier gain 0.004"),
        ("VersionApproved", "flight-delay/1", "ann", "agreed"),
        ("ModelRegistered", "flight-delay/2", "trainer", "retrain"),
    ]
    assert told[-2:] == [
        ("ModelPromoted", "flight-delay/2", "pipeline", "better by 0.004"),
        ("ModelRolledBack", "flight-delay", "watch", "worse by 0.01"),
    ]
    assert ledger._trail.entries()[-2].digests["scorer"] == f"{2:064x}"
