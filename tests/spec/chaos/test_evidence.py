"""What was acknowledged is compared with what was logged; a lost, doubled or torn record is seen."""

import struct
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson

from chaos_builders import a_log, a_record, an_answer
from mlops_lab.chaos.history import read_history
from mlops_lab.chaos.stored import Stored, keys_broken, read_logs, unlogged


def test_what_was_acknowledged_and_logged_once_is_in_order() -> None:
    assert unlogged([an_answer(1), an_answer(2)], a_log(2, 1, 3)) == ()


def test_a_lost_prediction_is_seen() -> None:
    assert unlogged([an_answer(1), an_answer(2)], a_log(1)) == ("prediction p2 was acknowledged to r2 and is not in the log",)


def test_a_doubled_prediction_is_seen() -> None:
    assert unlogged([an_answer(1)], a_log(1, 1)) == ("prediction p1 is in the log 2 times",)


def test_a_prediction_under_another_request_is_seen() -> None:
    assert "is in the log under r9" in unlogged([an_answer(1)], Stored([a_record(1, request="r9")]))[0]


def test_one_prediction_for_two_requests_is_seen() -> None:
    assert any("was given to" in said for said in unlogged([an_answer(1), an_answer(1, id="r2")], a_log(1)))


def test_an_idempotency_key_has_one_answer_and_one_entry() -> None:
    once, again = an_answer(1, key="k"), an_answer(1, key="k", id="r1.2")
    assert keys_broken([once, again], Stored([a_record(1, key="k")])) == ()
    other = an_answer(2, key="k", id="r1.2")
    assert "answered with 2 different ids" in keys_broken([once, other], Stored([a_record(1, key="k")]))[0]
    assert "has 2 log entries" in keys_broken([once], Stored([a_record(1, key="k"), a_record(2, key="k")]))[0]


def write_segment(folder: Path, content: bytes) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "000000000001.log").write_bytes(b"mlplog1\n" + content)


def a_frame(record: dict[str, Any]) -> bytes:
    payload = orjson.dumps(record)
    return struct.pack("<II", len(payload), crc32(payload)) + payload


def test_a_torn_record_is_seen_and_whole_ones_are_read(tmp_path: Path) -> None:
    write_segment(tmp_path / "log", a_frame(a_record(1)) + a_frame(a_record(2)))
    assert read_logs([tmp_path / "log"]) == a_log(1, 2)

    for harm in (lambda c: c[:-1], lambda c: c + b"\0\0\0", lambda c: c[:-3] + b"x" + c[-2:]):
        write_segment(tmp_path / "log", harm(a_frame(a_record(1)) + a_frame(a_record(2))))
        assert read_logs([tmp_path / "log"]).torn


def test_a_history_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    line = b'{"id": "r1", "status": 200, "body": "{}", "sent_ns": 1, "done_ns": 2}\n'
    (tmp_path / "history").write_bytes(line + line[:20])
    assert [request.id for request in read_history(tmp_path / "history")] == ["r1"]
