"""What the log says reaches tables, bus and audit trail, each effect once, also when a release or a bus changes."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlops_lab.clock import from_iso
from mlops_lab.data import frames
from mlops_lab.events import ANSWERS, Message
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.pipelines.answered import answered
from mlops_lab.pipelines.ship import ship
from mlops_lab.serving.prediction_log import read_frames
from mlops_lab.serving.segments import log_name
from parcel_builders import MODEL
from pipeline_builders import NOW, SmallLab
from shipping_builders import AT, LATER, TRACE, answers, effects, expected, incident, incidents, told, write, write_mixed


def test_each_frame_has_its_effect_once(lab: SmallLab) -> None:
    write_mixed(lab, range(5))

    assert ship(lab) == 5 * 7
    assert ship(lab) == ship(lab.again()) == 0
    assert effects(lab) == expected(range(5))


def test_an_answered_request_is_told_as_one_event_of_ids(lab: SmallLab) -> None:
    write(lab.home, answers(1, 2, trace=TRACE), answers(3, variant="canary", model_version=4))
    ship(lab)

    first, second = told(lab)
    data = {"predictions": ["p1", "p2"], "model_version": 3, "variant": "champion", "purpose": "live", "request_id": "r1"}
    assert first.to_cloudevent() == {
        "specversion": "1.0",
        "id": "answered-p1",
        "source": "mlops-lab",
        "type": "PredictionsAnswered",
        "time": LATER,
        "subject": MODEL,
        "datacontenttype": "application/json",
        "dataschema": f"urn:mlops-lab:event:{first.type}:1",
        "traceparent": TRACE,
        "partitionkey": "r1",
        "data": data,
    }
    assert (second.data["variant"], second.data["model_version"], second.at.isoformat()) == ("canary", 4, "2013-04-01T12:00:00+00:00")
    assert "traceparent" not in second.to_cloudevent()
    assert Message.from_cloudevent(first.to_cloudevent()) == first


def test_probes_are_not_told(lab: SmallLab) -> None:
    write(lab.home, answers(1, purpose="probe"))
    ship(lab)

    assert told(lab) == []
    assert effects(lab).predictions == ["p1"]


@pytest.mark.parametrize("moment", ["2013-04-01 12:00", "2013-04-01T12"])
def test_whatever_the_table_takes_for_a_moment_can_be_told(moment: str) -> None:
    message = answered(answers(1, rows=[answers(1)["rows"][0] | {"moment": moment}]))
    assert message is not None
    assert message.at == datetime(2013, 4, 1, 12, tzinfo=UTC)


def test_a_bus_of_an_earlier_release_is_taken_over(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "bus.db"
    with sqlite3.connect(path) as db:
        columns = "topic TEXT NOT NULL, offset INTEGER NOT NULL, id TEXT NOT NULL, source TEXT NOT NULL, type TEXT NOT NULL"
        db.execute(f"CREATE TABLE message ({columns}, at TEXT, subject TEXT, data TEXT, PRIMARY KEY (topic, offset)) WITHOUT ROWID")
        db.execute("INSERT INTO message VALUES ('answers', 1, 'old', 's', 'T', ?, 'm', '{}')", (AT,))
    db.close()
    for bus in (SqliteBus(path), SqliteBus(path)):
        new = Message("T", NOW, "m", {}, id="new", traceparent=TRACE, partition_key="k", version=2)
        bus.publish(ANSWERS, [new])
        old = Message("T", from_iso(AT), "m", {}, id="old", source="s")
        assert [one.message for one in bus.read(ANSWERS, 0)] == [old, new]
        bus.close()
    assert SqliteBus(path).log_id(ANSWERS) == bus.log_id(ANSWERS)


def test_a_bus_that_was_made_anew_says_so(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    first = SqliteBus(path).log_id(ANSWERS)
    for file in tmp_path.iterdir():
        file.unlink()

    assert SqliteBus(path).log_id(ANSWERS) != first


def test_what_a_replica_tells_is_in_the_audit_trail_in_its_name(lab: SmallLab) -> None:
    write(lab.home, answers(1), incident(5), replica="replica-2")
    ship(lab)

    (fact,) = incidents(lab, "package_refused")
    position = [position.number for position, _ in read_frames(lab.home / "serving" / "replica-2" / "log")][1]
    assert (fact.subject, fact.by, fact.at) == (f"{log_name('replica-2', lab.home / 'serving/replica-2/log')}/{position}", "replica-2", NOW)
    assert fact.body == {
        "what": "package_refused",
        "subject": f"{MODEL}/5",
        "why": "the signature is nobody's",
        "digests": {"scorer": "ab"},
    }
    entry = lab.trail.entries()[-1]
    assert (entry.action, entry.subject, entry.actor, entry.reason) == ("IncidentRecorded", fact.subject, "replica-2", fact.why)
    assert lab.trail.verify() is None
    assert lab.ledger.unaccounted() == []


def test_frames_of_another_release_are_set_aside_and_recorded_once_per_kind(lab: SmallLab) -> None:
    strange = [*({"kind": "weather", "number": n} for n in range(5)), answers(1), {"kind": "tides", "number": 9}, answers(2)]
    name = log_name("replica-1", write(lab.home, *strange))
    ship(lab)
    ship(lab.again())

    assert effects(lab).predictions == ["p1", "p2"]
    assert effects(lab).aside == [0, 1, 2, 3, 4, 9]
    assert {fact.subject for fact in incidents(lab, "frames_set_aside")} == {f"{name}/set-aside/weather", f"{name}/set-aside/tides"}


def test_a_later_release_takes_up_what_was_set_aside_and_everything_follows(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mixed(lab, range(3))
    with pytest.MonkeyPatch.context() as older:
        older.setattr(frames, "KINDS", ("feedback",))
        ship(lab)
    assert (effects(lab).predictions, effects(lab).told, effects(lab).incidents) == ([], [], [])

    for later in (lab.again(), lab.again()):
        ship(later)
        again = effects(later)
        assert (again.predictions, again.told, again.shadows, again.incidents) == (
            expected(range(3)).predictions,
            expected(range(3)).told,
            expected(range(3)).shadows,
            expected(range(3)).incidents,
        )
