"""The checkers of F1 and F4 are shown doctored evidence: the ledger is away, and the bus."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaos_builders import SECOND, a_log, a_refusal, an_answer, broken
from mlops_lab.chaos import buses
from mlops_lab.chaos.registries import Outage, Without, check_serving, looks


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
