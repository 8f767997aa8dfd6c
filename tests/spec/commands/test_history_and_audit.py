"""`lab history` and `lab audit`: what happened, in order, and whether the record still holds."""

import sqlite3

import pytest

from cli_builders import Said, told
from mlops_lab.cli.chronicle import Chronicle
from parcel_builders import week
from pipeline_builders import SmallLab

AT = week(7).start
"""Event time of the home's first promotion."""


def test_history_tells_what_served_when(lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    said("promote", "2")

    assert said("history", "--at", "2013-03-01")["served"]["version"] == 1
    assert said("history", "--at", "2013-03-11 12:00Z")["served"]["version"] == 2
    assert said("history", "--at", "2013-03-11T13:00+01:00")["served"]["version"] == 2
    assert "the first served from 2013-02-11 00:00Z" in said("history", "--at", "2013-01-01", code=30)["error"]["next"]
    assert "is no moment" in told(capsys, "history", "--at", "noon", code=2)
    assert "until 2013-03-11 12:00Z, when version 2 took over" in told(capsys, "history", "--at", "2013-03-01")


def test_history_tells_everything_in_order(lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    said("watch")
    timeline = said("history")["timeline"]
    whats = [line["what"] for line in timeline]  # all of the same wall time here, so the kinds stand together

    assert whats[:10] == ["batch accepted"] * 6 + ["judged: promote", "approved", "judged: promote", "week watch"]
    assert whats[-3:] == ["version", "version", "new champion"]
    assert "2013-02-25 12:00Z week retrain 2013-W08 platform" in told(capsys, "history")


def test_an_audit_that_holds_says_so(lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    found = said("audit")

    assert (found["holds"], found["entries"]) == (True, len(lab.trail.entries()))
    assert said("audit", "verify") == found
    assert f"All {found['entries']} entries hold" in told(capsys, "audit")
    assert [entry["seq"] for entry in said("audit", "list", "--last", "2")["entries"]] == [found["entries"] - 1, found["entries"]]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE audit_entry SET reason = 'nothing' WHERE seq = 5", "entry 5 edited"),
        ("DELETE FROM audit_entry WHERE seq = 6", "entry 6 missing"),
        ("UPDATE assignment SET version = 2", "do not agree with the audit trail"),
    ],
)
def test_a_record_that_somebody_touched_leaves_with_40_and_is_named(change: str, says: str, lab: SmallLab, said: Said) -> None:
    with sqlite3.connect(lab.home / "lab.db") as db:
        for (trigger,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {trigger}")
        assert db.execute(change).rowcount == 1

    assert says in said("audit", code=40)["error"]["what"]


def test_the_chronicle_tells_only_what_is_new(lab: SmallLab, capsys: pytest.CaptureFixture[str]) -> None:
    from mlops_lab.cli.output import Output

    chronicle = Chronicle(Output(), lab)
    assert chronicle.tell() == []
    lab.ledger.refuse(1, "too slow", AT, "operator")

    assert [(line.what, line.subject, line.says) for line in chronicle.tell()] == [("refused", "version 1", "too slow")]
    assert "version 1: too slow" in capsys.readouterr().out
    assert chronicle.tell() == []
