"""The prediction log: what was acknowledged is in it once, whatever dies, and nobody reads half a record."""

import random
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from log_builders import numbers
from mlops_lab.errors import HomeInUse, LogDamaged, LogUnwritable
from mlops_lab.serving.prediction_log import START, Position, PredictionLog, drop_segments, encode, read_frames
from mlops_lab.serving.segments import MAGIC, frame, log_id, log_name, segment_numbers, segment_path

WRITER = """
import os, sys
from pathlib import Path
from mlops_lab.serving.prediction_log import PredictionLog
log = PredictionLog(Path(sys.argv[1]), segment_bytes=40_000)
first = int(sys.argv[2])
for i in range(first, first + 1_000_000):
    log.append({"kind": "predictions", "n": i, "filling": "x" * (i * 37 % 20_000)})
    os.write(1, b"%d\\n" % i)
"""


def test_records_come_back_in_order_across_segments(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, segment_bytes=300)
    for n in range(50):
        log.append({"n": n})

    assert numbers(tmp_path) == list(range(50))
    assert len(segment_numbers(tmp_path)) > 1


def test_reading_goes_on_behind_any_position(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, segment_bytes=300)
    positions = [log.append({"n": n}) for n in range(50)]

    for n, position in enumerate(positions):
        assert numbers(tmp_path, after=position) == list(range(n + 1, 50))
    assert positions == sorted(positions) == [position for position, _ in read_frames(tmp_path)]


def test_a_reading_with_an_end_is_repeatable_while_the_log_grows(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, segment_bytes=300)
    positions = [log.append({"n": n}) for n in range(50)]

    assert [record["n"] for _, record in read_frames(tmp_path, positions[9], positions[29])] == list(range(10, 30))


def test_a_position_is_one_growing_number_for_those_who_number_transactions() -> None:
    assert Position.of(Position(3, 70_000).number) == Position(3, 70_000)
    assert Position(1, 9_000_000).number < Position(2, 8).number < 2**63


def test_there_is_nothing_to_read_where_there_is_no_log(tmp_path: Path) -> None:
    assert list(read_frames(tmp_path / "nowhere")) == []


@pytest.mark.parametrize("torn", [1, 7, 8, 9, 20])
def test_a_torn_tail_is_never_read_and_is_cut_and_kept_at_the_next_start(
    tmp_path: Path, torn: int, caplog: pytest.LogCaptureFixture
) -> None:
    log = PredictionLog(tmp_path)
    end = log.append({"n": 0})
    log.close()
    tail = frame(b'{"n":1,"filling":"xxxxxxxxx"}')[:torn]
    with segment_path(tmp_path, 1).open("ab") as segment:
        segment.write(tail)
    assert numbers(tmp_path) == [0]

    log = PredictionLog(tmp_path)
    log.append({"n": 2})

    assert numbers(tmp_path) == [0, 2]
    assert (tmp_path / f"000000000001.log.torn-{end.offset}").read_bytes() == tail
    assert "serving.torn_tail_cut" in caplog.text


def test_a_tail_of_zeros_as_a_power_cut_leaves_it_is_no_record(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)
    log.append({"n": 0})
    log.close()
    with segment_path(tmp_path, 1).open("ab") as segment:
        segment.write(bytes(4096))

    assert numbers(tmp_path) == [0]
    PredictionLog(tmp_path).append({"n": 1})
    assert numbers(tmp_path) == [0, 1]


@pytest.mark.parametrize("size", range(len(MAGIC)))
def test_a_segment_that_was_only_just_begun_is_begun_again(tmp_path: Path, size: int) -> None:
    segment_path(tmp_path, 1).write_bytes(MAGIC[:size])

    assert numbers(tmp_path) == []
    PredictionLog(tmp_path).append({"n": 0})
    assert numbers(tmp_path) == [0]


def test_damage_in_a_finished_segment_is_said_and_not_skipped(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, segment_bytes=300)
    for n in range(50):
        log.append({"n": n})
    path = segment_path(tmp_path, 1)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    with pytest.raises(LogDamaged, match=r"000000000001\.log is damaged at byte"):
        numbers(tmp_path)


def test_a_changed_record_is_never_read_as_if_it_had_been_written(tmp_path: Path) -> None:
    """Each bit of the last record is turned, one at a time: in its length, its checksum and its payload, `{"n":5}`."""
    log = PredictionLog(tmp_path)
    begin, end = log.append({"n": 4}).offset, log.append({"n": 5}).offset
    path = segment_path(tmp_path, 1)
    written = path.read_bytes()
    for bit in range(begin * 8, end * 8):
        changed = bytearray(written)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        assert numbers(tmp_path) == [4]


def test_a_file_that_is_not_a_segment_is_not_written_to(tmp_path: Path) -> None:
    segment_path(tmp_path, 1).write_bytes(b"somebody's diary")

    with pytest.raises(LogDamaged):
        PredictionLog(tmp_path)
    assert segment_path(tmp_path, 1).read_bytes() == b"somebody's diary"


def test_one_process_writes_a_log(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)

    with pytest.raises(HomeInUse, match="own name"):
        PredictionLog(tmp_path)
    log.close()
    PredictionLog(tmp_path).append({"n": 0})


def test_a_closed_log_refuses(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)
    log.close()

    with pytest.raises(LogUnwritable):
        log.append({"n": 0})


def test_what_is_shipped_can_be_dropped_and_what_is_written_to_stays(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, segment_bytes=300)
    positions = [log.append({"n": n}) for n in range(50)]
    shipped = positions[30]

    drop_segments(tmp_path, shipped)

    assert numbers(tmp_path, after=shipped) == list(range(31, 50))
    assert segment_numbers(tmp_path)[0] == shipped.segment
    drop_segments(tmp_path, Position(99, 0))
    assert segment_numbers(tmp_path) == [positions[-1].segment]


def test_a_reader_beside_a_writer_sees_every_record_once_and_whole(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, segment_bytes=20_000)
    writer = threading.Thread(target=lambda: [log.append({"n": n, "filling": "y" * (n * 31 % 3000)}) for n in range(2000)])
    writer.start()
    seen: list[int] = []
    reached = START
    while len(seen) < 2000:
        for position, record in read_frames(tmp_path, reached):
            seen.append(record["n"])
            reached = position
    writer.join()

    assert seen == list(range(2000))


def test_a_full_disk_refuses_leaves_no_half_record_and_passes(tmp_path: Path) -> None:
    """The limit on file size stands for the disk: the system takes a part of a record, then nothing."""
    log = PredictionLog(tmp_path)
    log.append({"n": 0})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.position.offset + 50, hard))
    try:
        for _ in range(3):
            with pytest.raises(LogUnwritable, match="resume by themselves"):
                log.append({"n": 1, "filling": "z" * 1000})
            with pytest.raises(LogUnwritable):
                log.check()
        assert log.trouble
        assert numbers(tmp_path) == [0]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    log.check()
    assert not log.trouble
    log.append({"n": 2})
    assert numbers(tmp_path) == [0, 2]


def test_every_start_begins_a_segment_with_its_first_record(tmp_path: Path) -> None:
    for n in range(3):
        for _ in range(3):
            PredictionLog(tmp_path).close()  # nothing is written: no file more
        log = PredictionLog(tmp_path)
        assert log.append({"n": n}).segment == n + 1
        log.close()
    segment_path(tmp_path, 3).write_bytes(b"")  # a power cut took what was in it
    log = PredictionLog(tmp_path)
    assert log.append({"n": 3}) > Position(4, 0)
    assert numbers(tmp_path) == [0, 1, 3]


def test_a_log_has_an_id_that_stays_and_is_another_one_where_the_segments_are_gone(tmp_path: Path) -> None:
    assert log_id(tmp_path) == ""
    ids = set()
    for _ in range(3):
        log = PredictionLog(tmp_path)
        log.append({"n": 0})
        log.close()
        ids |= {log.id, log_id(tmp_path)}
    assert len(ids) == 1
    assert log_name("one", tmp_path) == f"one:{log.id}"
    for path in tmp_path.glob("*.log"):
        path.unlink()
    assert PredictionLog(tmp_path).id not in ids


def test_a_log_that_was_begun_without_an_id_stays_without(tmp_path: Path) -> None:
    segment_path(tmp_path, 4).write_bytes(MAGIC + encode({"n": 0}))
    log = PredictionLog(tmp_path)
    assert log.append({"n": 1}).segment == 5
    assert (log.id, log_name("one", tmp_path), numbers(tmp_path)) == ("", "one", [0, 1])


def test_an_id_that_cannot_be_read_stops_writer_and_reader(tmp_path: Path) -> None:
    PredictionLog(tmp_path).append({"n": 0})
    (tmp_path / "id").write_bytes(b"\0" * 17)
    with pytest.raises(LogDamaged, match="id"):
        log_id(tmp_path)
    (tmp_path / "lock").unlink()
    with pytest.raises(LogDamaged, match="id"):
        PredictionLog(tmp_path)


def test_no_acknowledged_record_is_lost_or_doubled_by_kill_9(tmp_path: Path) -> None:
    """A real process writes and acknowledges; it is killed at a random moment, ten times over on the same log."""
    chance = random.Random(7)
    acknowledged: list[int] = []
    for _ in range(10):
        first = (acknowledged[-1] if acknowledged else -1) + 1_000
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(first)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(chance.randrange(1, 60))]
        writer.kill()
        lines += writer.stdout.readlines()
        writer.stdout.close()
        writer.wait()
        acknowledged += [int(line) for line in lines if line.endswith(b"\n")]

    PredictionLog(tmp_path).close()
    logged = numbers(tmp_path)

    assert len(logged) == len(set(logged))
    assert set(acknowledged) <= set(logged)
    assert len(logged) - len(acknowledged) <= 10  # written, and killed before it was acknowledged
    assert all(record["filling"] == "x" * (record["n"] * 37 % 20_000) for _, record in read_frames(tmp_path))
