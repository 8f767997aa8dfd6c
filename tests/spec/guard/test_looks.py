"""The guard reads what the replicas logged, and takes a harmful canary's share away."""

import json
import time
from typing import Any

import pytest

from guard_builders import LIMITS, GuardedLab, a_frame, canary, log_trials, on_trial, trials
from mlops_lab.events import CONTROL, relay
from mlops_lab.monitoring.canary import Outcome
from mlops_lab.pipelines import guard as guard_module
from mlops_lab.pipelines.guard import CanaryGuard
from mlops_lab.registry.version import Role, State
from mlops_lab.serving.prediction_log import PredictionLog, drop_segments


@pytest.mark.parametrize(
    ("harm", "cause", "state"),
    [
        ({"errors": 60}, "errors", State.BARRED),
        ({"ratio": 1.5}, "latency", State.JUDGED),
        ({"shift": 0.1}, "scores", State.BARRED),
    ],
)
def test_harm_takes_the_share_away_and_is_on_the_record(lab: GuardedLab, harm: dict[str, Any], cause: str, state: State) -> None:
    line = on_trial(lab)
    log_trials(lab, line, 300, **harm)

    CanaryGuard(lab).step()

    away = lab.ledger.current(Role.CANARY)
    assert away is not None
    assert (away.version, away.from_version, away.replaces, away.weight) == (None, 2, line.id, 0.0)
    assert away.why.startswith(f"canary aborted, {cause}: ")
    assert away.by.startswith("policy:")
    ((subject, body),) = trials(lab)
    assert (subject, body["outcome"], body["cause"], body["version"], body["champion"]) == (str(line.id), "abort", cause, 2, 1)
    assert body["figures"]["requests"] == 300
    assert body["limits"]["error_rate"] == LIMITS.error_rate
    assert lab.ledger.state(2) == state
    assert lab.ledger.unaccounted() == []
    relay(lab.outbox, lab.bus)
    assert "CanaryAborted" in [each.message.type for each in lab.bus.read(CONTROL, -1, limit=10_000)]


def test_all_replicas_count_together_and_only_what_belongs_to_this_trial(lab: GuardedLab) -> None:
    """Another share of the same version, and pairs with an earlier champion, say nothing about this one."""
    earlier = on_trial(lab, 0.05)
    line = on_trial(lab, 0.1)
    log_trials(lab, earlier, 60, errors=30)
    log_trials(lab, line, 60, errors=30, champion=7)
    log_trials(lab, line, 70)
    log_trials(lab, line, 50, replica="replica-2")

    verdict = CanaryGuard(lab).step()

    assert verdict is not None
    assert (verdict.outcome, verdict.figures.requests, verdict.figures.errors) == (Outcome.CONTINUE, 120, 0)


def test_what_is_logged_later_is_read_from_where_reading_stopped(lab: GuardedLab) -> None:
    line = on_trial(lab)
    log_trials(lab, line, 100)
    guard = CanaryGuard(lab)
    guard.step()
    log_trials(lab, line, 40)
    log_trials(lab, line, 30, replica="replica-2")

    verdict = guard.step()

    assert verdict is not None
    assert verdict.figures.requests == 170
    restarted = CanaryGuard(lab).look()
    assert restarted is not None
    assert restarted[1].figures == verdict.figures


def test_shipped_and_deleted_segments_are_no_trouble(lab: GuardedLab) -> None:
    line = on_trial(lab)
    directory = lab.home / "serving" / "replica-9" / "log"
    log = PredictionLog(directory, segment_bytes=4_000)
    trial = {
        "assignment": line.id,
        "canary": 2,
        "champion": 1,
        "canary_first": True,
        "canary_us": 9.0,
        "champion_us": 9.0,
        "champion_probabilities": [0.2],
        "error": None,
    }
    guard = CanaryGuard(lab)
    for i in range(100):
        log.append(a_frame(i, 0.2, trial))
        if i == 50:
            guard.step()
            drop_segments(directory, log.position)
    log.close()

    verdict = guard.step()

    assert verdict is not None
    assert verdict.figures.requests == 100


def test_nothing_seen_until_the_deadline_is_an_abort_that_bars_nobody(lab: GuardedLab) -> None:
    line = on_trial(lab)
    log_trials(lab, line, 20)
    lab.after(599)
    CanaryGuard(lab).step()
    assert canary(lab) == 2

    lab.after(600)
    CanaryGuard(lab).step()

    assert canary(lab) is None
    assert trials(lab)[-1][1]["cause"] == "no_data"
    assert lab.ledger.state(2) == State.JUDGED
    assert on_trial(lab).version == 2


def test_a_clock_that_is_set_back_does_not_put_off_the_deadline(lab: GuardedLab, monkeypatch: pytest.MonkeyPatch) -> None:
    on_trial(lab)
    guard = CanaryGuard(lab)
    guard.step()
    lab.after(-3600)
    began = time.monotonic()
    monkeypatch.setattr(guard_module.time, "monotonic", lambda: began + 601)

    guard.step()

    assert canary(lab) is None


def test_a_verdict_is_plain_json(lab: GuardedLab) -> None:
    on_trial(lab)

    found = CanaryGuard(lab).look()

    assert found is not None
    json.dumps(found[1].to_dict(), allow_nan=False)
