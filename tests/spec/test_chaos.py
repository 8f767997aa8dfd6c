"""A checker that cannot fail proves nothing: each is shown evidence that was doctored, and has to say so."""

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson
import pytest

from mlops_lab.chaos import buses
from mlops_lab.chaos.catalogue import CATALOGUE, fault_called
from mlops_lab.chaos.clocks import Stepped
from mlops_lab.chaos.clocks import check as check_clock
from mlops_lab.chaos.disks import Cycle, Filled
from mlops_lab.chaos.disks import check as check_disk
from mlops_lab.chaos.durability import Traced, calls_in, orders_of
from mlops_lab.chaos.durability import check as check_order
from mlops_lab.chaos.fault import Fault, Finding, Result, Size
from mlops_lab.chaos.history import Request, read_history
from mlops_lab.chaos.hostile import Assaulted, Met
from mlops_lab.chaos.hostile import check as check_input
from mlops_lab.chaos.kills import Killed
from mlops_lab.chaos.kills import check as check_kills
from mlops_lab.chaos.overload import Overloaded
from mlops_lab.chaos.overload import check as check_overload
from mlops_lab.chaos.packages import Cut, CutShort, Tampered, Tampering, check_cuts, check_tampering
from mlops_lab.chaos.registries import Outage, Without, check_serving, looks
from mlops_lab.chaos.results import Kept, page, read_results, write_results
from mlops_lab.chaos.rollbacks import Rollback, RolledBack
from mlops_lab.chaos.rollbacks import check as check_rollback
from mlops_lab.chaos.runner import prove, require_tools
from mlops_lab.chaos.starts import Start, check_starts
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
    assert "2 acknowledged, 0 lost, 1 cut" in check_kills(killed()).measured
    assert "2 acknowledged, 2 lost" in check_kills(killed(stored=a_log(3))).measured


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
    away = replace(Outage("locked", 10 * SECOND, 30 * SECOND, [0.5, 10.5], told, 1, 2), **(outage or {}))
    return replace(Without([an_answer(1, 15), an_answer(2, 31, version=2)], a_log(1, 2), [away]), **changes)


def test_f1_holds_when_the_ledger_is_left_alone_and_followed_again() -> None:
    assert check_serving(without()).held


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        (without(requests=[a_refusal(1, 15), an_answer(2, 31, version=2)]), "r1 got 503"),
        (without(stored=a_log(1)), "p2 was acknowledged"),
        (without({"calls": [0.5, 1, 2, 3]}), "4 looks at it in 20 s (at 0.5, 1.0, 2.0, 3.0), allowed are 3"),
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


STRACE = """\
7 1.0 write(5</h/log/000000000001.log>, "....{\\"request_id\\":\\"r1\\",\\"rows\\":[]}", 90) = 90
8 1.1 fdatasync(5</h/log/000000000001.log> <unfinished ...>
7 1.2 write(5</h/log/000000000001.log>, "....{\\"request_id\\":\\"r2\\",\\"rows\\":[]}", 90) = 90
8 1.3 <... fdatasync resumed>) = 0
7 1.4 write(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, "HTTP/1.1 200 OK\\r\\nx-request-id: r1\\r\\n\\r\\n{}", 60) = 60
7 1.5 write(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, "HTTP/1.1 200 OK\\r\\nx-request-id: r2\\r\\n\\r\\n{}", 60) = 60
8 1.6 fdatasync(5</h/log/000000000001.log>) = 0
"""


def traced(durability: Any, lines: list[str]) -> Traced:
    return Traced({durability: [an_answer(1), an_answer(2)]}, {durability: orders_of(calls_in(lines), "/h/log")})


def test_f7_holds_when_the_record_comes_first() -> None:
    assert check_order(traced("process", STRACE.splitlines())).held


def test_f7_sees_an_answer_before_its_flush() -> None:
    """The flush that was under way when the second record was written does not cover it."""
    assert check_order(traced("disk", STRACE.splitlines())).broken == ("disk: r2 was answered before its record was flushed",)


def test_f7_does_not_take_the_flush_of_another_file_for_the_records() -> None:
    lines = STRACE.splitlines()
    lines.insert(4, "8 1.35 fsync(6</h/log>) = 0")
    lines.insert(4, "8 1.35 fdatasync(6</h/log/000000000002.log>) = 0")
    assert check_order(traced("disk", lines)).broken == ("disk: r2 was answered before its record was flushed",)


def test_f7_sees_an_answer_before_its_record() -> None:
    lines = STRACE.splitlines()
    lines.append(lines.pop(2))
    assert check_order(traced("process", lines)).broken == ("process: r2 was answered before its record was written",)


def test_f7_sees_an_answer_that_is_not_in_the_trace() -> None:
    assert "the answer to r2 is not in the trace" in broken(check_order(traced("process", STRACE.splitlines()[:5])))


def test_f7_does_not_hold_without_an_answer() -> None:
    assert "nothing was tried" in broken(check_order(Traced({"disk": []}, {"disk": {}})))


def a_start(**changes: Any) -> Start:
    return replace(Start("a sound cache", True, 1.0, 200, 200, 200, 1.0), **changes)


UNUSABLE = Start("an empty cache", False, float("inf"), 200, 503, 503, 2.0)


def test_f2_holds_when_only_a_sound_cache_answers() -> None:
    assert check_starts([a_start(), UNUSABLE]).held


@pytest.mark.parametrize(
    ("starts", "says"),
    [
        ([a_start(answered_s=6.0), UNUSABLE], "answered after 6.0 s"),
        ([a_start(ready=503), UNUSABLE], "/readyz answered 503"),
        ([a_start(), replace(UNUSABLE, answered_s=1.0)], "answered all the same"),
        ([a_start(), replace(UNUSABLE, alive=0)], "/healthz answered nothing"),
        ([a_start(), replace(UNUSABLE, ready=200)], "/readyz answered 200"),
        ([a_start(), replace(UNUSABLE, recovered_s=float("inf"))], "after the ledger was back"),
        ([a_start()], "both kinds"),
    ],
)
def test_f2_can_fail(starts: list[Start], says: str) -> None:
    assert says in broken(check_starts(starts))


def cut_short(**changes: Any) -> CutShort:
    requests = [an_answer(1, 1), an_answer(2, 3, version=4)]
    cuts = [Cut(4, "cut at byte 7", 2 * SECOND, int(2.5 * SECOND))]
    return replace(CutShort(requests, a_log(1, 2), cuts, {"ab": "ab"}, [], 2), **changes)


def test_f3_holds_when_a_version_answers_once_it_is_whole() -> None:
    assert check_cuts(cut_short()).held


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"requests": [an_answer(1, 1), an_answer(2, 2.1, version=4)]}, "before it was there whole"),
        ({"requests": [an_answer(1, 1), an_answer(2, 3)]}, "never followed"),
        ({"requests": [*cut_short().requests, a_refusal(3, 2.2)]}, "r3 got 503"),
        ({"cached": {"ab": "cd"}}, "the cache holds ab with the content of cd"),
        ({"differing": ["prediction p2 differs"]}, "prediction p2 differs"),
        ({"scored": 0}, "nothing was compared"),
        ({"stored": a_log(1)}, "p2 was acknowledged"),
    ],
)
def test_f3_can_fail(changes: dict[str, Any], says: str) -> None:
    assert says in broken(check_cuts(cut_short(**changes)))


def tampered(**changes: Any) -> Tampered:
    digest = "ab" * 32
    incident = {"kind": "incident", "what": "package_refused", "digests": {"scorer_sha256": digest}}
    log = Stored([*a_log(1, 2).frames, incident])
    good = Tampered([an_answer(1, 1), an_answer(2, 3, version=9)], log, [Tampering(4, "a pickle", digest, 2 * SECOND)], {"ef": "ef"}, 9)
    return replace(good, **changes)


def test_f5_holds_when_a_tampered_package_is_refused_and_told() -> None:
    assert check_tampering(tampered()).held


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"requests": [*tampered().requests, an_answer(3, 2.5, version=4)]}, "version 4 (a pickle) answered"),
        ({"stored": a_log(1, 2)}, "without an incident"),
        ({"cached": {"ab" * 32: "ab" * 32}}, "the cache holds the tampered"),
        ({"good_version": 10}, "the sound version 10 did not answer"),
        ({"requests": [*tampered().requests, a_refusal(3, 2.5)]}, "r3 got 503"),
    ],
)
def test_f5_can_fail(changes: dict[str, Any], says: str) -> None:
    assert says in broken(check_tampering(tampered(**changes)))


def stepped(**changes: Any) -> Stepped:
    requests = [an_answer(1, 1), an_answer(2, 2.5, version=2), an_answer(3, 2.7, version=2)]
    frames = [record | {"assignment": a, "answered_at": t} for record, a, t in zip(a_log(1, 2, 3).frames, (1, 2, 2), "121", strict=True)]
    return replace(Stepped(requests, Stored(frames), [(600.0, 2, 2 * SECOND, 2)], [1.0, 1.0]), **changes)


def test_f12_holds_when_only_the_time_of_the_records_goes_back() -> None:
    assert check_clock(stepped()).held


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stored": Stored(stepped().stored.frames[::-1])}, "an older line of the ledger answered"),
        ({"promoted": [(600.0, 3, 2 * SECOND, 3)]}, "line 3 (version 3) was followed after inf s"),
        ({"starts": [float("inf")]}, "answered after inf s"),
        ({"stored": Stored(stepped().stored.frames[:2])}, "did not bite"),
        ({"requests": [*stepped().requests, a_refusal(9, 2.6)]}, "r9 got 503"),
    ],
)
def test_f12_can_fail(changes: dict[str, Any], says: str) -> None:
    assert says in broken(check_clock(stepped(**changes)))


def rolled_back(**changes: Any) -> RolledBack:
    requests = [
        an_answer(1, 1, version=2, id="load0-0-1"),
        an_answer(2, 3, version=2, id="load0-0-2"),
        an_answer(3, 4, id="load0-0-3"),
        an_answer(4, 5, id="load0-0-4"),
    ]
    log = Stored([a_record(n, request=f"load0-0-{n}") for n in (1, 2, 3, 4)])
    return replace(RolledBack(requests, log, [Rollback(2 * SECOND, 0, "", 2, 1)], [(1, 1)]), **changes)


def test_f14_holds_when_the_old_version_answers_in_time() -> None:
    assert check_rollback(rolled_back()).held


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rollbacks": [Rollback(2 * SECOND, 30, "no way back", 2, 1)]}, "left with 30: no way back"),
        ({"rollbacks": [Rollback(-3 * SECOND, 0, "", 2, 1)]}, "version 1 answered after 7.0 s"),
        ({"requests": [*rolled_back().requests[:3], an_answer(4, 5, version=2, id="load0-0-4")]}, "version 2 answered again"),
        ({"stayed": [(1, 2)]}, "version 2 answered, not 1"),
        ({"requests": [*rolled_back().requests, a_refusal(9, 4)]}, "r9 got 503"),
    ],
)
def test_f14_can_fail(changes: dict[str, Any], says: str) -> None:
    assert says in broken(check_rollback(rolled_back(**changes)))


def overloaded(**changes: Any) -> Overloaded:
    steady, flood, after = [an_answer(1, 1)], [a_refusal(2, 1.5, status=429)], [an_answer(3, 3)]
    return replace(Overloaded(steady, flood, after, a_log(1, 3), [90_000, 91_000], 2 * SECOND, True), **changes)


def test_f17_holds_when_the_rest_is_turned_away() -> None:
    assert check_overload(overloaded()).held


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"flood": [a_refusal(2, 1.5, status=429, retry_after=None)]}, "without Retry-After"),
        ({"flood": [a_refusal(2, 1.5, status=0)]}, "r2 got no answer"),
        ({"flood": []}, "no overload"),
        ({"steady": [an_answer(1, 1, done_ns=2 * SECOND)]}, "p99 of 1000 ms"),
        ({"resident_kib": [90_000, 140_000]}, "grew by 49 MiB"),
        ({"after": [an_answer(3, 3), a_refusal(4, 8, status=429)]}, "6.0 s after the overload"),
        ({"after": []}, "after the overload"),
        ({"stored": a_log(1)}, "p3 was acknowledged"),
        ({"same_process": False}, "did not live"),
    ],
)
def test_f17_can_fail(changes: dict[str, Any], says: str) -> None:
    assert says in broken(check_overload(overloaded(**changes)))


def assaulted(*more: Met, **changes: Any) -> Assaulted:
    met = [Met("NaN", 400, True, True, ()), Met("garbage", 0, False, False, ()), *more]
    return replace(Assaulted(met, [an_answer(1)], a_log(1), [90_000, 90_500], True), **changes)


def test_bad_input_holds_when_each_gets_a_reason_or_is_closed() -> None:
    assert check_input(assaulted()).held


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        (assaulted(Met("NaN", 500, True, True, ())), "'NaN' got 500"),
        (assaulted(Met("NaN", 200, True, True, ())), "'NaN' got 200"),
        (assaulted(Met("NaN", 400, False, True, ())), "without a reason"),
        (assaulted(Met("NaN", 0, False, True, ())), "closed without an answer"),
        (assaulted(Met("garbage", -1, False, False, ())), "without an end"),
        (assaulted(Met("pipelined", -2, False, True, ())), "in another order"),
        (assaulted(resident_kib=[90_000, 140_000]), "grew by 49 MiB"),
        (assaulted(same_process=False), "did not live"),
        (assaulted(beside=[a_refusal(1, 1)]), "r1 got 503"),
        (assaulted(beside=[]), "no ordinary request"),
    ],
)
def test_bad_input_can_fail(seen: Assaulted, says: str) -> None:
    assert says in broken(check_input(seen))


def bus_away(**changes: Any) -> buses.Without:
    outage = buses.Outage("locked", (200, {"dependencies": {"bus": {"state": "down"}}}), (0.0, 1800.0, 0.0), 1.2)
    return buses.Without([an_answer(1)], a_log(1), [replace(outage, **changes)])


def test_f4_holds_when_answers_go_on_and_say_how_old_they_are() -> None:
    finding = buses.check(bus_away())
    assert finding.held
    assert finding.measured == "1 ways, 1 requests, 0 failed, worst 10 ms, facts count again ≤ 1.2 s"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ready": (200, {"dependencies": {"bus": {"state": "ok"}}})}, "says of the bus ok"),
        ({"ready": (503, {"dependencies": {"bus": {"state": "down"}}})}, "/readyz answered 503"),
        ({"ready": (200, "no document")}, "says of the bus None"),
        ({"ages": (0.0, 0.0, 0.0)}, "age was 0.0 s before, 0.0 s without it"),
        ({"ages": (0.0, 1800.0, 1800.0)}, "1800.0 s after"),
        ({"ages": (0.0, None, 0.0)}, "None s without it"),
        ({"counted_s": 5.1}, "counted 5.1 s after it was back"),
    ],
)
def test_f4_sees_a_bus_that_is_not_missed_or_not_found_again(changes: dict[str, Any], said: str) -> None:
    assert said in broken(buses.check(bus_away(**changes)))


def test_f4_sees_requests_that_failed_waited_or_are_not_logged() -> None:
    late = an_answer(1, done_ns=2 * SECOND + SECOND // 100)
    assert "took 1.01 s" in broken(buses.check(replace(bus_away(), requests=[late])))
    assert "r2 got 503" in broken(buses.check(replace(bus_away(), requests=[a_refusal(2, 1.0)])))
    assert "is not in the log" in broken(buses.check(replace(bus_away(), stored=a_log(2))))
