"""The checkers of F17 and of bad input are shown doctored evidence: too many callers, and hostile ones."""

from dataclasses import replace
from typing import Any

import pytest

from chaos_builders import SECOND, a_log, a_refusal, an_answer, broken
from mlops_lab.chaos.hostile import Assaulted, Met
from mlops_lab.chaos.hostile import check as check_input
from mlops_lab.chaos.overload import Overloaded
from mlops_lab.chaos.overload import check as check_overload


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
