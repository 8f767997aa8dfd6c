"""The checkers of F2, F6, F12, F14 and F16 are shown doctored evidence: starts, kills, clocks, rollbacks and swaps."""

from dataclasses import replace
from typing import Any

import pytest

from chaos_builders import SECOND, a_log, a_record, a_refusal, an_answer, broken
from mlops_lab.chaos.clocks import Stepped
from mlops_lab.chaos.clocks import check as check_clock
from mlops_lab.chaos.history import Request
from mlops_lab.chaos.kills import Killed
from mlops_lab.chaos.kills import check as check_kills
from mlops_lab.chaos.rollbacks import Rollback, RolledBack
from mlops_lab.chaos.rollbacks import check as check_rollback
from mlops_lab.chaos.starts import Start, check_starts
from mlops_lab.chaos.stored import Stored
from mlops_lab.chaos.swaps import Restart, Rolled, Swap
from mlops_lab.chaos.swaps import check as check_swaps


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
