"""Behind the service: what the log says reaches tables, bus and audit trail, each effect once, and the log stays bounded."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlops_lab.bootstrap.founding import found
from mlops_lab.cli import checks
from mlops_lab.cli.checks import MIB, Health
from mlops_lab.cli.main import run
from mlops_lab.clock import from_iso
from mlops_lab.data import frames, shipping
from mlops_lab.data.on_delta import DeltaTables
from mlops_lab.data.shipping import SET_ASIDE
from mlops_lab.errors import BusUnreachable, LogDamaged, LogUnwritable, StoreUnreachable
from mlops_lab.events import ANSWERS, Message
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.pipelines import ship as pipeline
from mlops_lab.pipelines.answered import answered
from mlops_lab.pipelines.backlog import Backlog, all_shipped, backlog
from mlops_lab.pipelines.log_check import find, joined
from mlops_lab.pipelines.ship import kept_bytes, ship
from mlops_lab.registry.ledger import INCIDENT
from mlops_lab.registry.on_sql import SqlLedger
from mlops_lab.serving.prediction_log import Position, PredictionLog, drop_segments, encode, read_frames
from mlops_lab.serving.segments import log_id, log_name, segment_numbers, segment_path
from mlops_lab.serving.shipped import remember_shipped, shipped_to
from mlops_lab.settings import ServiceSettings, Settings
from pipeline_builders import MODEL, NOW, SmallLab
from shipping_builders import AT, LATER, TRACE, answers, effects, expected, feedback, incident, mixed, told, write

DIE = Path(__file__).parents[1] / "ship_and_die.py"


@pytest.fixture
def lab(tmp_path: Path) -> SmallLab:
    lab = SmallLab(tmp_path / "home")
    found(lab)
    return lab


@pytest.fixture
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "kept_bytes", lambda lab: 0)


def write_mixed(lab: SmallLab, numbers: range, **how: Any) -> Path:
    return write(lab.home, *(frame for number in numbers for frame in mixed(number)), **how)


def incidents(lab: SmallLab, what: str) -> list[Any]:
    return [fact for fact in lab.ledger.facts(INCIDENT) if fact.body["what"] == what]


# --- Where everything goes ---------------------------------------------------------------------------------------------------------


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


# --- Whatever dies -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("dies_at", range(1, 15))
@pytest.mark.usefixtures("nothing_kept")
def test_a_death_between_any_two_effects_changes_nothing(lab: SmallLab, monkeypatch: pytest.MonkeyPatch, dies_at: int, after: bool) -> None:
    """Tables, bus, ledger, note and clean-up: the process dies just before or just behind the n-th of them."""
    write_mixed(lab, range(4))
    monkeypatch.setattr(shipping, "CHUNK", 9)
    calls = 0

    def dying(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == dies_at and not after:
                raise KeyboardInterrupt
            result = real(*arguments, **named)
            if calls == dies_at:
                raise KeyboardInterrupt
            return result

        monkeypatch.setattr(owner, name, call)

    for owner, name in (
        (DeltaTables, "append"),
        (SqliteBus, "publish"),
        (SqlLedger, "record"),
        (pipeline, "remember_shipped"),
        (pipeline, "drop_segments"),
    ):
        dying(owner, name)
    with pytest.raises(KeyboardInterrupt):
        ship(lab)
    ship(lab.again())
    monkeypatch.undo()

    assert effects(lab) == expected(range(4))
    assert len(incidents(lab, "frames_set_aside")) == 1
    assert lab.trail.verify() is None


def test_a_bus_that_does_not_answer_holds_nothing_back_for_good(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows are in the tables; the events follow when the bus is back."""
    write_mixed(lab, range(3))
    down = BusUnreachable.at("bus.db", "disk I/O error")
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(SqliteBus, "publish", lambda *_: (_ for _ in ()).throw(down))
        with pytest.raises(BusUnreachable):
            ship(lab)
    assert effects(lab).predictions == expected(range(3)).predictions
    assert effects(lab).told == []
    assert backlog(lab)[0].unshipped_bytes > 0

    assert ship(lab.again()) == 0
    assert effects(lab) == expected(range(3))
    assert backlog(lab)[0].unshipped_bytes == 0


@pytest.mark.usefixtures("nothing_kept")
def test_tables_put_back_from_a_copy_get_again_what_the_log_still_has(lab: SmallLab, tmp_path: Path) -> None:
    """The note may only ever make the shipping read more, never less."""
    write_mixed(lab, range(2))
    ship(lab)
    shutil.copytree(lab.home / "tables", tmp_path / "copy")
    write_mixed(lab, range(2, 4), segment_bytes=1_000_000)
    ship(lab.again())
    shutil.rmtree(lab.home / "tables")
    shutil.copytree(tmp_path / "copy", lab.home / "tables")

    ship(lab.again())

    assert effects(lab.again()) == expected(range(4))
    (lab.home / "serving" / "replica-1" / "shipped.json").write_text("torn", encoding="utf-8")
    ship(lab.again())
    assert effects(lab.again()) == expected(range(4))


def test_killed_twenty_times_while_it_ships(tmp_path: Path) -> None:
    """A real process, tables, bus and ledger on disk, SIGKILL at random moments; the log grows on and shipped segments are dropped."""
    done = subprocess.run([sys.executable, str(DIE), str(tmp_path / "home"), "20", "7"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    lab = SmallLab(tmp_path / "home")

    assert said["killed"] == 20
    assert effects(lab) == expected(range(said["written"]))
    positions = [int(fact.subject.split("/")[1]) for fact in incidents(lab, "package_refused")]
    assert len(set(positions)) == said["written"]
    offsets = [delivery.offset for delivery in lab.bus.read(ANSWERS, 0, limit=1_000_000)]
    assert offsets == list(range(1, 2 * said["written"] + 1))
    assert segment_numbers(lab.home / "serving" / "replica-1" / "log")[0] > 1
    assert lab.trail.verify() is None
    assert lab.ledger.unaccounted() == []
    assert {fact.body["what"] for fact in lab.ledger.facts(INCIDENT)} == {"package_refused", "frames_set_aside"}


@pytest.mark.parametrize("note", ["lost", "left"])
@pytest.mark.usefixtures("nothing_kept")
def test_a_replica_whose_disk_was_lost_begins_another_log_and_nothing_of_it_is_taken_for_shipped(
    lab: SmallLab, note: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its segments begin at 1 again, below the position that the tables have of the log that is gone. The bus is down at first."""
    folder = write_and_ship(lab, *(answers(n) for n in range(20)), incident(1))
    shutil.rmtree(folder.parent if note == "lost" else folder)
    write(lab.home, *(answers(n) for n in range(100, 112)), incident(2))
    assert segment_numbers(folder)[0] == 1
    with monkeypatch.context() as broken:
        broken.setattr(SqliteBus, "publish", lambda *_: (_ for _ in ()).throw(BusUnreachable.at("bus.db", "disk I/O error")))
        with pytest.raises(BusUnreachable):
            ship(lab)

    for each in (lab, lab.again()):
        ship(each)

    assert effects(lab).predictions == effects(lab).told == sorted(f"p{n}" for n in (*range(20), *range(100, 112)))
    assert effects(lab).incidents == [f"{MODEL}/1", f"{MODEL}/2"]
    assert backlog(lab)[0].unshipped_bytes == 0
    assert len(segment_numbers(folder)) == 1
    assert len(incidents(lab, "package_refused")) == len(lab.ledger.facts(INCIDENT)) == 2


@pytest.mark.usefixtures("nothing_kept")
def test_only_the_log_that_was_shipped_is_dropped(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is lost while the shipping is at work."""
    folder = write(lab.home, *(answers(n) for n in range(20)))

    def then_lost(folder: Path, log: str, position: Position) -> None:
        remember_shipped(folder, log, position)
        shutil.rmtree(folder)
        write(lab.home, *(answers(n) for n in range(100, 112)))

    with monkeypatch.context() as lost:
        lost.setattr(pipeline, "remember_shipped", then_lost)
        ship(lab)
    assert segment_numbers(folder)[0] == 1
    ship(lab)
    assert effects(lab).predictions == sorted(f"p{n}" for n in (*range(20), *range(100, 112)))


@pytest.mark.usefixtures("nothing_kept")
def test_a_log_of_a_release_without_ids_goes_on(lab: SmallLab) -> None:
    folder = write(lab.home, *(answers(n) for n in range(20)))
    (folder / "id").unlink()
    ship(lab)
    assert lab.tables.progress("predictions", "ship:replica-1") == shipped_to(folder).number > 0
    note = json.loads((folder.parent / "shipped.json").read_text(encoding="utf-8"))
    assert note == {"position": shipped_to(folder).number}

    write(lab.home, *(answers(n) for n in range(100, 112)))
    ship(lab.again())

    assert log_id(folder) == ""
    assert effects(lab).predictions == sorted(f"p{n}" for n in (*range(20), *range(100, 112)))


@pytest.mark.usefixtures("nothing_kept")
def test_a_log_that_ends_before_what_the_tables_have_is_told_and_not_dropped(lab: SmallLab) -> None:
    """A release without ids began on an empty disk: nobody can tell what of it is shipped."""
    folder = write_and_ship(lab, *(answers(n) for n in range(40)))
    name = log_id(folder)
    shutil.rmtree(folder.parent)
    write(lab.home, *(answers(n) for n in range(100, 112)))
    (folder / "id").write_text(name, encoding="ascii")
    numbers = segment_numbers(folder)

    for each in (lab, lab.again()):
        ship(each)

    assert segment_numbers(folder) == numbers
    assert len(incidents(lab, "log_behind")) == 1


@pytest.mark.parametrize("left", ["half", "nothing", "no file"])
def test_what_is_written_after_a_power_cut_that_took_what_was_shipped_is_shipped(lab: SmallLab, left: str) -> None:
    """`durability=process`: the tables have rows that the log has no more. New records must not lie below the tables' position."""
    path = segment_path(write_and_ship(lab, *(answers(n) for n in range(20)), segment_bytes=4_000), 2)
    if left == "no file":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size // 2 if left == "half" else 0)
    for first in (100, 106):
        write(lab.home, *(answers(n) for n in range(first, first + 6)), segment_bytes=1_000_000)
        ship(lab)

    assert effects(lab).predictions == sorted(f"p{n}" for n in (*range(20), *range(100, 112)))


def test_what_a_reader_took_of_a_write_that_failed_keeps_its_position(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three requests with one write, of which the system takes two and a half; the watcher looks before the half is cut off."""
    log = PredictionLog(lab.home / "serving" / "replica-1" / "log")
    log.append(answers(1))
    ship(lab)
    frames_of_three = [encode(answers(n)) for n in (2, 3, 4)]
    write_all, cut = os.write, os.ftruncate

    def part(fd: int, data: bytes) -> int:
        return write_all(fd, data[: len(frames_of_three[0]) + len(frames_of_three[1]) + 10])

    def look_then_cut(fd: int, size: int) -> None:
        ship(lab)
        cut(fd, size)

    with monkeypatch.context() as full:
        full.setattr(os, "write", part)
        full.setattr(os, "ftruncate", look_then_cut)
        with pytest.raises(LogUnwritable):
            log.write(frames_of_three)
    for n in (5, 6, 7):
        log.append(answers(n))
    log.close()
    ship(lab)

    assert effects(lab).predictions == ["p1", "p2", "p3", "p5", "p6", "p7"]
    assert list(lab.ledger.facts(INCIDENT)) == []


def test_nothing_is_shipped_of_a_segment_whose_name_the_disk_may_lose(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number would be given again, to records below the position of the tables."""
    write(lab.home, answers(1))
    with monkeypatch.context() as broken:
        broken.setattr(pipeline, "sync_directory", lambda folder: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(StoreUnreachable):
            ship(lab)
    assert effects(lab).predictions == []
    ship(lab)
    assert effects(lab).predictions == ["p1"]


# --- Retention ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_kept")
def test_shipped_segments_are_dropped_and_the_one_that_is_written_stays(lab: SmallLab) -> None:
    folder = write_mixed(lab, range(10))
    numbers = segment_numbers(folder)
    assert len(numbers) > 5

    ship(lab)

    assert segment_numbers(folder) == numbers[-1:]
    write_mixed(lab, range(10, 20))
    ship(lab)
    assert effects(lab) == expected(range(20))
    assert incidents(lab, "segments_missing") == []


def test_what_is_not_wholly_shipped_is_never_dropped(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bus is down: the rows are in the tables already, and still nothing may go."""
    monkeypatch.setattr(pipeline, "kept_bytes", lambda lab: 0)
    folder = write_mixed(lab, range(10))
    numbers = segment_numbers(folder)
    down = BusUnreachable.at("bus.db", "disk I/O error")
    monkeypatch.setattr(SqliteBus, "publish", lambda *_: (_ for _ in ()).throw(down))
    for _ in range(2):
        with pytest.raises(BusUnreachable):
            ship(lab)
    assert segment_numbers(folder) == numbers


def test_the_newest_bytes_of_what_is_shipped_stay(tmp_path: Path) -> None:
    folder = write(tmp_path, *(answers(n) for n in range(60)))
    numbers, sizes = segment_numbers(folder), [path.stat().st_size for path in sorted(folder.glob("*.log"))]
    keep = sum(sizes[-4:-1]) - 1  # of those before the last, three hold just enough

    drop_segments(folder, Position(numbers[-1], 8), keep)

    assert segment_numbers(folder) == numbers[-4:]
    drop_segments(folder, Position(numbers[-3], 8), 0)
    assert segment_numbers(folder) == numbers[-3:]


def test_how_much_stays_has_a_floor_and_a_ceiling(tmp_path: Path) -> None:
    def kept(**said: int) -> int:
        lab = SmallLab(tmp_path)
        lab.settings = Settings(home=tmp_path, service=ServiceSettings(**said))  # type: ignore[arg-type]
        return kept_bytes(lab) // 1024 // 1024

    assert kept() == 1024
    assert kept(log_keep_mib=0) == 32  # what keys are read back from
    assert kept(log_limit_mib=100) == 50  # or the service would stand at its limit


def test_a_reader_goes_on_where_a_segment_was_dropped_under_it(tmp_path: Path) -> None:
    folder = write(tmp_path, *(answers(n) for n in range(40)))
    reading = read_frames(folder)
    next(reading)
    numbers = segment_numbers(folder)
    drop_segments(folder, Position(numbers[3], 8))

    rest = list(reading)

    assert {position.segment for position, _ in rest} == {numbers[0], *numbers[3:]}


def test_a_segment_that_is_gone_without_being_shipped_is_an_incident(lab: SmallLab) -> None:
    folder = write_mixed(lab, range(10))
    segment_path(folder, 3).unlink()
    for each in (lab, lab.again()):
        ship(each)

    (fact,) = incidents(lab, "segments_missing")
    assert (fact.body["first"], fact.body["last"], fact.body["count"]) == (3, 3, 1)


# --- Damage ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["middle", "beginning"])
@pytest.mark.usefixtures("nothing_kept")
def test_damage_is_put_aside_recorded_and_read_past(lab: SmallLab, where: str) -> None:
    """Nothing is lost silently: the record says how many bytes could not be read, and what is readable behind them is shipped."""
    folder = write_mixed(lab, range(10))
    written = {row["prediction_id"]: p for p, frame in read_frames(folder) if frame["kind"] == "predictions" for row in frame["rows"]}
    path = segment_path(folder, 2)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if where == "middle" else 0] ^= 1
    path.write_bytes(content)
    with pytest.raises(LogDamaged):
        list(read_frames(folder))

    for each in (lab, lab.again()):
        ship(each)

    (fact,) = incidents(lab, "log_damaged")
    begin, size, kept = fact.body["offset"], fact.body["unreadable_bytes"], folder / fact.body["kept_as"]
    assert begin == 0 if where == "beginning" else 8 < begin <= len(content) // 2
    assert size == len(content) - begin
    assert kept.read_bytes() == bytes(content[begin:])
    assert f"{size} bytes of {path.name} could not be read" in next(e.reason for e in lab.trail.entries() if e.subject == fact.subject)
    assert not path.exists()
    assert effects(lab).predictions == sorted(one for one, p in written.items() if p.segment != 2 or p.offset <= begin)
    assert set(written) - set(effects(lab).predictions)
    assert backlog(lab)[0].aside == 1


def test_a_record_that_is_no_json_costs_only_itself(lab: SmallLab) -> None:
    from mlops_lab.serving.segments import frame

    folder = write(lab.home, answers(1), segment_bytes=1_000_000)
    with segment_path(folder, 1).open("ab") as segment:
        segment.write(frame(b"{no json}"))
    write(lab.home, answers(2), segment_bytes=1_000_000)

    ship(lab)

    assert effects(lab).predictions == ["p1", "p2"]
    assert [fact.body["unreadable_bytes"] for fact in incidents(lab, "log_damaged")] == [17]


def test_the_tail_that_a_replica_cut_off_is_recorded(lab: SmallLab) -> None:
    folder = write(lab.home, answers(1))
    with segment_path(folder, 1).open("ab") as segment:
        segment.write(b"\x10\0\0\0half")
    write(lab.home, answers(2))
    for each in (lab, lab.again()):
        ship(each)

    assert [fact.body["cut_bytes"] for fact in incidents(lab, "tail_cut")] == [8]
    assert effects(lab).predictions == ["p1", "p2"]


# --- Backlog and checks from outside -------------------------------------------------------------------------------------------------


def test_the_backlog_says_how_much_waits_and_since_when(lab: SmallLab) -> None:
    assert backlog(lab) == []
    folder = write(lab.home, answers(1), feedback(1))
    size = segment_path(folder, 1).stat().st_size

    (waiting,) = backlog(lab)
    assert (waiting.replica, waiting.unshipped_bytes, waiting.unshipped_since) == ("replica-1", size - 8, NOW)
    assert not all_shipped(lab)
    ship(lab)
    assert all_shipped(lab)
    (shipped,) = backlog(lab)
    assert (shipped.unshipped_bytes, shipped.unshipped_since, shipped.aside) == (0, None, 0)
    assert shipped.size_bytes == size + len(log_id(folder)) + 1
    assert shipped_to(folder) == Position(1, size)


def test_ids_are_joined_with_log_and_table(lab: SmallLab) -> None:
    """Shipped and kept is once; only in the log is once; two records, or two that differ, are twice; nowhere is missing."""
    write(lab.home, answers(1, 2))
    shutil.rmtree(write_and_ship(lab, answers(3), replica="replica-3").parent)
    write(lab.home, answers(4), answers(3, model_version=9), answers(5), {"kind": "weather", "number": 1})
    write(lab.home, answers(5), replica="replica-2")

    found = joined(lab, ["p1", "p2", "p3", "p4", "p5", "p6"])

    assert (found.once, found.missing, found.twice, found.unreadable_bytes) == (3, ("p6",), ("p3", "p5"), 0)
    assert not found.holds
    assert joined(lab, ["p1", "p2", "p4"]).holds
    assert {one.place for one in find(lab, "p3")} == {"log", "table"}
    ship(lab)
    assert joined(lab, ["p1", "p2", "p4"]).holds
    assert sorted(one.place for one in find(lab, "p4")) == ["log", "table"]


def write_and_ship(lab: SmallLab, *frames: dict[str, Any], **how: Any) -> Path:
    folder = write(lab.home, *frames, **how)
    ship(lab)
    return folder


def test_an_answer_that_was_set_aside_is_not_missing(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "kept_bytes", lambda lab: 0)
    write_mixed(lab, range(10))
    with pytest.MonkeyPatch.context() as older:
        older.setattr(frames, "KINDS", ("feedback",))
        ship(lab)
    assert lab.tables.version(SET_ASIDE) > 0
    assert joined(lab, expected(range(10)).predictions).holds
    ship(lab.again())
    assert joined(lab, expected(range(10)).predictions).holds


# --- On the command line -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> SmallLab:
    """The home that every command opens."""
    monkeypatch.setattr("mlops_lab.bootstrap.Lab", lambda settings: lab)
    monkeypatch.setenv("LAB_HOME", str(lab.home))
    return lab


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert run(list(words)) == code
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_log_verify_counts_and_leaves_with_1_when_an_answer_is_missing(
    opened: SmallLab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(opened.home, answers(1, 2), answers(3), answers(4), answers(4))
    ids = tmp_path / "ids"
    ids.write_text("p1\np2\n\np3\np2\n", encoding="utf-8")
    assert "once 3, missing 0, twice 0, of 3 predictions" in said(capsys, "log", "verify", "--ids", str(ids))
    ship(opened)
    assert "once 3, missing 0, twice 0" in said(capsys, "log", "verify", "--ids", str(ids))

    ids.write_text("p1\np4\np9\n", encoding="utf-8")
    assert "missing: p9" in said(capsys, "log", "verify", "--ids", str(ids), code=1)
    assert run(["log", "verify", "--ids", str(ids), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["ids"], found["once"], found["missing"], found["twice"], found["holds"]) == (3, 1, ["p9"], ["p4"], False)

    ids.write_text("\n", encoding="utf-8")
    assert "There is no id in" in said(capsys, "log", "verify", "--ids", str(ids), code=2)
    assert "cannot be read" in said(capsys, "log", "verify", "--ids", str(tmp_path / "nowhere"), code=2)


def test_log_find_shows_every_record_of_a_prediction(opened: SmallLab, capsys: pytest.CaptureFixture[str]) -> None:
    write(opened.home, answers(1))
    assert "replica-1, segment 1" in said(capsys, "log", "find", "p1")
    ship(opened)
    places = [one["place"] for one in json.loads(said(capsys, "log", "find", "p1", "--json"))["records"]]
    assert places == ["log", "table"]
    assert "There is no record of prediction p2" in said(capsys, "log", "find", "p2", code=1)


def test_history_tells_incidents(opened: SmallLab, capsys: pytest.CaptureFixture[str]) -> None:
    write(opened.home, incident(5))
    ship(opened)
    text = " ".join(said(capsys, "history").split())
    assert f"package_refused ({MODEL}/5): the signature is nobody's" in text


def test_status_shows_the_log_of_each_replica(opened: SmallLab, capsys: pytest.CaptureFixture[str]) -> None:
    write(opened.home, answers(1), replica="replica-2")
    (log,) = json.loads(said(capsys, "status", "--json"))["logs"]
    assert (log["replica"], log["unshipped_since"]) == ("replica-2", "2026-01-01T00:00:00Z")
    assert "replica-2" in said(capsys, "status")
    ship(opened)
    (log,) = json.loads(said(capsys, "status", "--json"))["logs"]
    assert log["unshipped_bytes"] == 0 < log["size_bytes"]


@pytest.mark.parametrize(
    ("waiting", "since", "aside", "health", "hint"),
    [
        (0, None, 0, Health.OK, ""),
        (10 * MIB, 20, 0, Health.OK, ""),
        (10 * MIB, 300, 0, Health.WARN, "starts the watcher"),
        (60 * MIB, 20, 0, Health.FAIL, "503"),
        (0, None, 2, Health.WARN, "lab history"),
    ],
)
def test_the_doctor_looks_at_what_is_not_shipped(waiting: int, since: int | None, aside: int, health: Health, hint: str) -> None:
    log = Backlog("replica-1", 80 * MIB, waiting, None if since is None else NOW - timedelta(seconds=since), aside)
    check = checks.shipping([log], NOW, 100 * MIB)

    assert (check.health, hint in check.next) == (health, True)
    assert "80.0 MiB" in check.found
    assert checks.shipping([], NOW, MIB).health is Health.OK


def test_a_backlog_is_read_without_the_frameworks_of_tables() -> None:
    """`lab status` answers at once."""
    code = "import sys, mlops_lab.pipelines.backlog; sys.exit(any(name in sys.modules for name in ('pandas', 'deltalake', 'sqlalchemy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
