"""A checker that cannot fail proves nothing: each is shown evidence that was doctored, and has to say so."""

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson
import pytest

from mlops_lab.chaos.catalogue import CATALOGUE, fault_called
from mlops_lab.chaos.disks import Cycle, Filled
from mlops_lab.chaos.disks import check as check_disk
from mlops_lab.chaos.fault import Fault, Finding, Result, Size
from mlops_lab.chaos.history import Request, read_history
from mlops_lab.chaos.kills import Killed
from mlops_lab.chaos.kills import check as check_kills
from mlops_lab.chaos.registries import Outage, Without, check_serving, looks
from mlops_lab.chaos.results import Kept, page, read_results, write_results
from mlops_lab.chaos.runner import prove, require_tools
from mlops_lab.chaos.stored import Stored, keys_broken, read_logs, unlogged
from mlops_lab.chaos.swaps import Restart, Rolled, Swap
from mlops_lab.chaos.swaps import check as check_swaps
from mlops_lab.errors import LabError, UnknownName

SECOND = 1_000_000_000


def an_answer(number: int, at_s: float = 1.0, version: int = 1, **changes: Any) -> Request:
    """A request that got its 200, sent at a second and answered 10 ms later."""
    body = orjson.dumps({"prediction_id": f"p{number}", "probability": 0.5, "model_version": version}).decode()
    sent = int(at_s * SECOND)
    return replace(Request(f"r{number}", 200, body, sent, sent + SECOND // 100, port=1), **changes)


def a_refusal(number: int, at_s: float, status: int = 503, retry_after: str | None = "1") -> Request:
    sent = int(at_s * SECOND)
    return Request(f"r{number}", status, "{}", sent, sent + SECOND // 100, port=1, retry_after=retry_after)


def a_record(number: int, request: str | None = None, key: str | None = None) -> dict[str, Any]:
    record = {"kind": "predictions", "request_id": request or f"r{number}", "rows": [{"prediction_id": f"p{number}"}]}
    return record | ({"key": key} if key else {})


def a_log(*numbers: int) -> Stored:
    return Stored([a_record(number) for number in numbers])


def broken(finding: Finding) -> str:
    return " | ".join(finding.broken)


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


def killed(**changes: Any) -> Killed:
    cut = Request("r3", 0, "reset", 2 * SECOND, 2 * SECOND + 1)
    return replace(Killed([an_answer(1), cut, an_answer(2, at_s=3)], a_log(1, 2, 3), [SECOND // 2, 2 * SECOND], 1), **changes)


def test_f6_holds_when_only_unanswered_requests_are_cut() -> None:
    assert check_kills(killed()).held


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stored": a_log(1)}, "p2 was acknowledged"),
        ({"stored": a_log(1, 2, 2)}, "2 times"),
        ({"stored": Stored(a_log(1, 2).frames, ["torn"])}, "torn"),
        ({"starts_ns": [SECOND // 2, 2 * SECOND, 4 * SECOND]}, "start 3 answered after inf s"),
        ({"requests": [an_answer(1), an_answer(2, at_s=6)]}, "start 2 answered after 4.0 s"),
        ({"requests": [*killed().requests, a_refusal(4, 3, status=500)]}, "got 500"),
        ({"requests": [], "starts_ns": []}, "nothing was acknowledged"),
    ],
)
def test_f6_can_fail(changes: dict[str, Any], says: str) -> None:
    assert says in broken(check_kills(killed(**changes)))


def filled(**changes: Any) -> Filled:
    requests = [an_answer(1, 1), a_refusal(2, 2.5), an_answer(3, 3.1)]
    return replace(Filled(requests, a_log(1, 3), [Cycle("full disk", 2 * SECOND, 3 * SECOND)], True), **changes)


def test_f8_holds_when_refusals_say_when_to_come_back() -> None:
    assert check_disk(filled()).held


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stored": a_log(1)}, "p3 was acknowledged"),
        ({"requests": [an_answer(1), a_refusal(2, 2.5, retry_after=None), an_answer(3, 3.1)]}, "without Retry-After"),
        ({"requests": [an_answer(1), a_refusal(2, 2.5), an_answer(3, 9)]}, "6.0 s after there was room again"),
        ({"requests": [an_answer(1), an_answer(3, 3.1)]}, "the fault did not bite"),
        ({"requests": [*filled().requests, a_refusal(4, 2.6, status=500)]}, "got 500"),
        ({"same_process": False}, "did not live"),
    ],
)
def test_f8_can_fail(changes: dict[str, Any], says: str) -> None:
    assert says in broken(check_disk(filled(**changes)))


def rolled(**changes: Any) -> Rolled:
    requests = [an_answer(1, 1), an_answer(2, 2.2, version=2), an_answer(3, 2.6, version=2)]
    return replace(Rolled(requests, a_log(1, 2, 3), [Swap(2, 2, 2 * SECOND)], [Restart("replica-1", 0, 0.5)], [1]), **changes)


def test_f16_holds_when_every_request_is_answered() -> None:
    assert check_swaps(rolled()).held


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"requests": [*rolled().requests, Request("r9", 0, "EOF", 3 * SECOND, 3 * SECOND)]}, "r9 got no answer"),
        ({"requests": [*rolled().requests, a_refusal(9, 3)]}, "r9 got 503"),
        ({"stored": a_log(1, 3)}, "p2 was acknowledged"),
        ({"requests": [an_answer(1), an_answer(2, 2.2), an_answer(3, 2.6)]}, "never seen on port 1"),
        ({"requests": [an_answer(1), an_answer(2, 2.2, version=2), an_answer(3, 2.6)]}, "then another one did, first r3"),
        ({"requests": [an_answer(1), an_answer(2, 5, version=2), an_answer(3, 6, version=2)]}, "after 3.0 s"),
        ({"ports": [1, 2]}, "never seen on port 2"),
        ({"restarts": [Restart("replica-1", None, 20.0)]}, "replica-1 ended with None"),
        ({"restarts": [Restart("replica-1", 1, 1.0)]}, "replica-1 ended with 1"),
    ],
)
def test_f16_can_fail(changes: dict[str, Any], says: str) -> None:
    assert says in broken(check_swaps(rolled(**changes)))


def without(outage: dict[str, Any] | None = None, **changes: Any) -> Without:
    told = (200, {"status": "ready", "degraded": ["the ledger does not answer"]})
    away = replace(Outage("locked", 10 * SECOND, 30 * SECOND, [0.5, 10.5], told, 2), **(outage or {}))
    return replace(Without([an_answer(1, 15), an_answer(2, 31, version=2)], a_log(1, 2), [away]), **changes)


def test_f1_holds_when_the_ledger_is_left_alone_and_followed_again() -> None:
    assert check_serving(without()).held


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        (without(requests=[a_refusal(1, 15), an_answer(2, 31, version=2)]), "r1 got 503"),
        (without(stored=a_log(1)), "p2 was acknowledged"),
        (without({"calls": [0.5, 1, 2, 3]}), "4 looks at it in 20 s, allowed are 3"),
        (without({"calls": []}), "did not bite"),
        (without({"ready": (200, {"status": "ready", "degraded": []})}), "does not tell"),
        (without({"ready": (503, "ledger")}), "/readyz answered 503"),
        (without({"version": 3}), "version 3 answered inf s"),
    ],
)
def test_f1_can_fail(seen: Without, says: str) -> None:
    assert says in broken(check_serving(seen))


def test_system_calls_close_together_are_one_look() -> None:
    trace = "\n".join(
        [
            '7 100.0 openat(AT_FDCWD, "/h/lab.db", O_RDWR) = 3</h/lab.db>',
            "7 101.000 pread64(3</h/lab.db>, ...) = 100",
            "8 101.010 fcntl(4</h/lab.db-shm>, F_SETLK, ...) = 0",
            "8 101.200 pread64(5</h/bus.db>, ...) = 100",
            "7 102.500 pread64(3</h/lab.db>, ...) = 100",
        ]
    )
    assert [round(at, 2) for at in looks(trace, Path("/h/lab.db"), since=100.5)] == [0.5, 2.0]


def test_a_fault_that_cannot_be_tried_does_not_count_as_held() -> None:
    def stumble(*_: object) -> Any:
        raise OSError("no such thing")

    fault: Fault[Any] = Fault("F0", "t", "d", "p", "a", stumble, lambda seen: Finding("all well"))
    (result,) = prove([fault], None, 7, Size.SHORT)  # type: ignore[arg-type]
    assert not result.finding.held
    assert "no such thing" in result.finding.broken[0]


def test_a_missing_program_is_an_error_and_never_a_skip() -> None:
    with pytest.raises(LabError, match="no-such-program"):
        require_tools([replace(CATALOGUE["F1"], needs=("no-such-program",))])


def test_faults_are_found_by_their_id_in_any_case() -> None:
    assert fault_called("f6") is CATALOGUE["F6"]
    with pytest.raises(UnknownName, match="F6"):
        fault_called("F66")


def test_the_page_tells_the_last_result_of_each_fault(tmp_path: Path) -> None:
    good = Kept(Result("F6", Size.LONG, 7, 400.0, Finding("200 kills, 0 lost")), "2026-11-26", "abc1234")
    bad = Kept(Result("F8", Size.SHORT, 7, 8.0, Finding("3 cycles", ("a record was torn",))), "2026-11-26", "abc1234")
    write_results(tmp_path / "faults.json", [bad])
    write_results(tmp_path / "faults.json", [good])

    kept = read_results(tmp_path / "faults.json")
    text = page(CATALOGUE, kept, ["a bug"])

    assert kept == {"F8": bad, "F6": good}
    assert "200 kills, 0 lost" in text
    assert "**no**" in text
    assert "- **F8**: a record was torn" in text
    assert "not tried yet" in text
