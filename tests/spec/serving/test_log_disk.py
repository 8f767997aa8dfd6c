"""The prediction log on a disk that fails: writes that are cut, flushes that do not happen, and what is certain then."""

import gc
import os
from pathlib import Path
from typing import Any

import pytest

from log_builders import numbers
from mlops_lab.errors import LogUnwritable
from mlops_lab.serving.prediction_log import Damage, PredictionLog, encode, read_frames
from mlops_lab.serving.segments import segment_numbers
from waiting import until


def test_durability_against_power_cuts_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fdatasync", flushed.append)
    PredictionLog(tmp_path / "a").append({"n": 0})
    assert not flushed
    log = PredictionLog(tmp_path / "b", durability="disk")
    flushed.clear()
    log.append({"n": 0})
    assert len(flushed) == 1
    log.write([encode({"n": 1}), encode({"n": 2})])
    assert len(flushed) == 1  # who writes many waits for the disk once, with `sync`
    log.sync()
    assert len(flushed) == 2


IO_ERROR = OSError(5, "Input/output error")


def failing(monkeypatch: pytest.MonkeyPatch, name: str, *fails: bool) -> None:
    """The first calls of a function of `os` fail as said, all later ones do their work."""
    real, left = getattr(os, name), list(fails)

    def call(*arguments: Any) -> Any:
        if left and left.pop(0):
            raise IO_ERROR
        return real(*arguments)

    monkeypatch.setattr(os, name, call)


def descriptors() -> int:
    gc.collect()  # what earlier tests left to the collector must not be let go in between
    return len(list(Path("/proc/self/fd").iterdir()))


def test_of_a_write_that_fails_the_whole_records_keep_their_positions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = PredictionLog(tmp_path)
    frames = [encode({"n": n}) for n in (1, 2, 3)]
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda fd, data: write(fd, data[: len(frames[0]) + 5]))
        log._next_segment()
        with pytest.raises(LogUnwritable):
            log.write(frames)
    seen = list(read_frames(tmp_path))
    assert [record["n"] for _, record in seen] == [1]

    after = log.write(frames[1:])

    assert after > seen[-1][0]
    assert numbers(tmp_path, after=seen[-1][0]) == [2, 3]
    assert segment_numbers(tmp_path) == [1]


def test_where_half_a_record_cannot_be_cut_the_next_segment_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = PredictionLog(tmp_path)
    log.append({"n": 0})
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda fd, data: write(fd, data[:5]))
        failing(full, "ftruncate", True)
        with pytest.raises(LogUnwritable):
            log.append({"n": 1})
    log.append({"n": 2})

    damage: list[Damage] = []
    assert [record["n"] for _, record in read_frames(tmp_path, on_damage=damage.append)] == [0, 2]
    assert [one.size for one in damage] == [5]


def test_a_disk_that_stays_full_makes_no_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = PredictionLog(tmp_path, segment_bytes=300)
    for n in range(10):
        log.append({"n": n})
    before = segment_numbers(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda fd, data: 0)
        for _ in range(50):
            with pytest.raises(LogUnwritable):
                log.write([encode({"n": -1}), encode({"n": -1, "filling": "z" * 300})])
    assert len(segment_numbers(tmp_path)) <= len(before) + 1
    log.append({"n": 10})
    assert numbers(tmp_path) == list(range(11))


def test_a_failed_flush_makes_all_of_its_segment_uncertain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux tells of lost pages once, then flushes succeed."""
    log = PredictionLog(tmp_path, durability="disk")
    log.append({"n": 0})
    first = log.write([encode({"n": 1})])
    failing(monkeypatch, "fdatasync", True)
    with pytest.raises(LogUnwritable):
        log.sync(first)
    for _ in range(2):
        with pytest.raises(LogUnwritable):
            log.sync()
    second = log.write([encode({"n": 2})])
    assert second.segment == first.segment + 1
    assert log.trouble  # it is not known yet whether the disk takes it
    with pytest.raises(LogUnwritable):
        log.sync(first)
    assert log.trouble
    log.sync(second)
    assert log.trouble is None
    with pytest.raises(LogUnwritable):
        log.sync(first)
    assert log.trouble is None
    assert log.append({"n": 3}).segment == second.segment
    assert numbers(tmp_path) == [0, 1, 2, 3]


def test_flushes_that_keep_failing_make_a_segment_a_second_and_leak_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = PredictionLog(tmp_path, durability="disk")
    log.append({"n": 0})
    before = descriptors()
    with monkeypatch.context() as broken:
        failing(broken, "fdatasync", *[True] * 1000)
        for _ in range(200):
            with pytest.raises(LogUnwritable):
                log.append({"n": 1})
            with pytest.raises(LogUnwritable):
                log.check()
    assert descriptors() == before
    assert len(segment_numbers(tmp_path)) <= 4
    log.check()
    assert log.trouble is None
    until(lambda: taken(log, {"n": 2}))
    assert numbers(tmp_path)[-1] == 2


def taken(log: PredictionLog, frame: dict[str, int]) -> bool:
    try:
        log.append(frame)
    except LogUnwritable:
        return False
    return True


def test_the_end_of_a_segment_is_flushed_by_the_next_flush_and_not_by_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = PredictionLog(tmp_path, segment_bytes=300, durability="disk")
    log.append({"n": 0})
    before, flushed, real = descriptors(), [], os.fdatasync

    def seen(fd: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", seen)
    monkeypatch.setattr(os, "fsync", lambda fd: flushed.append(Path(f"/proc/self/fd/{fd}").readlink().name))
    for _ in range(3):
        log.write([encode({"n": 1, "filling": "z" * 300})])
    assert flushed == []
    log.sync()
    assert flushed == [f"{number:012d}.log" for number in (1, 2, 3)] + [tmp_path.name]
    assert descriptors() == before


def test_what_a_predecessor_did_not_flush_is_flushed_at_the_start_since_keys_are_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = PredictionLog(tmp_path, segment_bytes=300)
    for n in range(3):
        log.write([encode({"n": n, "filling": "z" * 300})])
    log.close()
    flushed: list[str] = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: flushed.append(Path(f"/proc/self/fd/{fd}").readlink().name))
    PredictionLog(tmp_path, durability="disk")
    assert flushed == ["000000000002.log", "000000000003.log"]


def test_the_end_of_a_segment_that_cannot_be_flushed_is_not_certain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = PredictionLog(tmp_path, segment_bytes=300, durability="disk")
    log.append({"n": 0})
    before = descriptors()
    old = log.write([encode({"n": 1, "filling": "z" * 300})])
    new = log.write([encode({"n": 2})])
    assert new.segment == old.segment + 1
    failing(monkeypatch, "fdatasync", True)
    for _ in range(2):
        with pytest.raises(LogUnwritable):
            log.sync(old)
    log.sync(new)
    assert descriptors() == before
