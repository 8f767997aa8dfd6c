"""What the service writes about a canary is what the guard reads, and the fault that fails a canary reaches it."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import orjson
import pytest

import serving_builders
from mlops_lab.monitoring.canary import CanaryLimits, Cause, judge_canary
from mlops_lab.pipelines.guard import Watched
from mlops_lab.registry.version import Assignment, Role
from mlops_lab.serving.call import Call
from mlops_lab.serving.faults import Faults
from mlops_lab.serving.loaded import LineUp
from mlops_lab.serving.parts import assemble
from mlops_lab.serving.service import Service
from serving_builders import NOON, Flat, a_replica, an_item


@pytest.mark.parametrize("share", [0.0, 0.05, 1.0])
def test_the_guard_counts_what_the_service_let_the_canary_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    monkeypatch.setattr(serving_builders, "assemble", partial(assemble, faults=Faults(share)))
    replica = a_replica(tmp_path, 0.3)
    replica.follow()
    champion = replica.parts.slot.require().champion
    replica.parts.slot.lineup = LineUp(champion, replace(champion, version=7, assignment=99, scorer=Flat(0.3)), 1000)
    service = Service(replica.parts)
    calls = [
        Call("predict", [(b"content-type", b"application/json"), (b"x-request-id", b"r%d" % i)], orjson.dumps(an_item()))
        for i in range(1_000)
    ]
    for at in range(0, len(calls), 20):
        service.work(calls[at : at + 20])
        service.settle(calls[at : at + 20])

    line = Assignment(99, "m", Role.CANARY, None, 7, None, 1.0, NOON, NOON, "a test", "because", "promotion")
    watched = Watched(line, champion.version, NOON)
    watched.read([("replica-1", replica.directory / "serving" / "log")])

    verdict = judge_canary(watched.evidence, 10, CanaryLimits())
    assert {call.reply.status for call in calls if call.reply} == {200}
    assert verdict.figures.requests == 1_000
    assert verdict.figures.error_rate.estimate == pytest.approx(share, abs=0.02)
    assert (verdict.cause == Cause.ERRORS) == (share > 0)
    if not share:
        assert 300 <= len(watched.evidence.log_ratios) <= 500
