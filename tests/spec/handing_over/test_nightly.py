"""The run of every night, which verifies the record."""

import sqlite3
from contextlib import closing

import pytest

from handing_over_builders import AT
from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.identities import PLATFORM
from mlops_lab.errors import AuditBroken


def test_the_nightly_run_finds_a_row_that_the_trail_does_not_know(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trail that holds says nothing about a ledger that was edited."""
    from mlops_lab.pipelines.deployed.on_prefect import verify_audit

    lab.ledger.record("note", "a", {}, at=AT, by=PLATFORM, why="a test")
    monkeypatch.setattr(Lab, "of_environment", lambda: lab)
    verify_audit.fn()

    with closing(sqlite3.connect(lab.home / "lab.db")) as db:
        for (trigger,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {trigger}")
        assert db.execute("UPDATE fact SET subject = 'b'").rowcount == 1
        db.commit()

    with pytest.raises(AuditBroken, match="do not agree"):
        verify_audit.fn()
