"""A log that is lost, replaced, or shorter than what was shipped of it: nothing is taken for shipped, nothing comes twice."""

import json
import os
import shutil
from pathlib import Path

import pytest

from mlops_lab.errors import BusUnreachable, LogUnwritable, StoreUnreachable
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.pipelines import ship as pipeline
from mlops_lab.pipelines.backlog import backlog
from mlops_lab.pipelines.ship import ship
from mlops_lab.registry.ledger import INCIDENT
from mlops_lab.serving.prediction_log import Position, PredictionLog, encode
from mlops_lab.serving.segments import log_id, segment_numbers, segment_path
from mlops_lab.serving.shipped import remember_shipped, shipped_to
from parcel_builders import MODEL
from pipeline_builders import SmallLab
from shipping_builders import answers, effects, incident, incidents, write, write_and_ship


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
