"""The checkers of F3 and F5 are shown doctored evidence: downloads that were cut, and packages that were tampered with."""

from dataclasses import replace
from typing import Any

import pytest

from chaos_builders import SECOND, a_log, a_refusal, an_answer, broken
from mlops_lab.chaos.cut_downloads import Cut, CutShort, check_cuts
from mlops_lab.chaos.stored import Stored
from mlops_lab.chaos.tampering import Tampered, Tampering, check_tampering


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
