"""The log stays bounded: what is shipped is dropped, and nothing else."""

from pathlib import Path

import pytest

from mlops_lab.errors import BusUnreachable
from mlops_lab.events.on_sqlite import SqliteBus
from mlops_lab.pipelines import ship as pipeline
from mlops_lab.pipelines.ship import kept_bytes, ship
from mlops_lab.serving.prediction_log import Position, drop_segments, read_frames
from mlops_lab.serving.segments import segment_numbers, segment_path
from mlops_lab.settings import ServiceSettings, Settings
from pipeline_builders import SmallLab
from shipping_builders import answers, effects, expected, incidents, write, write_mixed


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
