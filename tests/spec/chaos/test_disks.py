"""The checkers of F7 and F8 are shown doctored evidence: the order of system calls, and a disk that is full."""

from dataclasses import replace
from typing import Any

import pytest

from chaos_builders import SECOND, a_log, a_refusal, an_answer, broken
from mlops_lab.chaos.disks import Cycle, Filled
from mlops_lab.chaos.disks import check as check_disk
from mlops_lab.chaos.durability import Traced, calls_in, orders_of
from mlops_lab.chaos.durability import check as check_order


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
