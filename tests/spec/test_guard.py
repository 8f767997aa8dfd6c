"""The guard reads what the replicas logged, takes a harmful canary's share away once, and says so in the ledger, whenever it dies."""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_lab.bootstrap.identities import OPERATOR, PLATFORM
from mlops_lab.clock import FixedClock
from mlops_lab.errors import PromotionRefused, RegistryUnreachable, SettingsWrong, UnknownVersion, UsageError
from mlops_lab.events import CONTROL, relay
from mlops_lab.monitoring.canary import CanaryLimits, Outcome, judge_canary
from mlops_lab.pipelines import guard as guard_module
from mlops_lab.pipelines import worker
from mlops_lab.pipelines.canary import begin, end, newest_challenger, promote_canary, require_passed, running
from mlops_lab.pipelines.guard import TRIAL, CanaryGuard
from mlops_lab.pipelines.handlers import WATCHING
from mlops_lab.pipelines.ship import ship
from mlops_lab.pipelines.worker import Worker
from mlops_lab.registry.ledger import OVERRIDE
from mlops_lab.registry.version import Assignment, Role, State
from mlops_lab.serving.faults import Faults
from mlops_lab.serving.prediction_log import PredictionLog, drop_segments
from mlops_lab.settings import load_settings
from pipeline_builders import MODEL, NOW, SmallLab, a_training, copied, established, serve, training_flow, week

AT = week(10).closes_at
LIMITS = CanaryLimits(min_requests=200, min_s=10, deadline_s=600, error_rate=0.05)


class GuardedLab(SmallLab):
    """Its clock is the test's; its limits are quick to meet."""

    @cached_property
    def canary_limits(self) -> CanaryLimits:
        return LIMITS

    def after(self, seconds: float) -> None:
        self.clock = FixedClock(NOW + timedelta(seconds=seconds))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> SmallLab:
    """Version 1 is champion; the judge was for version 2, and against version 3."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlops_lab.pipelines.train.MIN_ROWS", 500)
        lab = established(tmp_path_factory.mktemp("guard") / "home")
        for number in range(7, 11):
            serve(lab, week(number), turned=True)
        ship(lab)
        assert training_flow(a_training(AT, "turned"), lab)[0].outcome == "promote"
        training_flow(a_training(AT, "spoilt", flip_share=0.5), lab)
        lab.ledger.record_judgement(3, {"outcome": "keep", "because": "it is worse", "champion": 1}, AT, PLATFORM)
        lab.ledger.refuse(3, "it is worse", AT, PLATFORM)
    return lab


@pytest.fixture
def lab(template: SmallLab, tmp_path: Path) -> GuardedLab:
    home = copied(template, tmp_path / "home").home
    return GuardedLab(home, template.catalog.candidates)


def on_trial(lab: GuardedLab, share: float = 0.1) -> Assignment:
    return begin(2, share, AT, OPERATOR, lab)


def log_trials(
    lab: GuardedLab,
    line: Assignment,
    count: int,
    *,
    errors: int = 0,
    ratio: float = 1.0,
    shift: float = 0.0,
    replica: str = "replica-1",
    **changes: Any,
) -> None:
    """Requests dealt to the canary, as a replica logs them; the failing ones are spread evenly."""
    rng = np.random.default_rng(count)
    failing = set(np.linspace(1, count - 1, errors).astype(int).tolist()) if errors else set()
    log = PredictionLog(lab.home / "serving" / replica / "log")
    for i in range(count):
        p = float(rng.uniform(0.05, 0.7))
        trial = {
            "assignment": line.id,
            "canary": line.version,
            "champion": 1,
            "canary_first": i % 2 == 0,
            "canary_us": None if i in failing else 20.0 * ratio * float(rng.lognormal(0, 0.1)),
            "champion_us": 20.0,
            "champion_probabilities": [p],
            "error": "it failed" if i in failing else None,
        }
        log.append(a_frame(i, p if i in failing else p + shift, trial | changes))
    log.close()


def a_frame(i: int, probability: float, trial: Mapping[str, Any]) -> dict[str, Any]:
    row = {"prediction_id": f"p{i}", "entity": "e", "moment": NOW, "features": [], "ages_s": {}, "probability": probability}
    return {"kind": "predictions", "request_id": f"r{i}", "model": MODEL, "answered_at": NOW, "rows": [row], "trial": dict(trial)}


def trials(lab: GuardedLab) -> list[tuple[str, Mapping[str, Any]]]:
    return [(fact.subject, fact.body) for fact in lab.ledger.facts(TRIAL)]


def canary(lab: GuardedLab) -> int | None:
    line = lab.ledger.current(Role.CANARY)
    return line.version if line else None


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


def test_a_second_look_changes_nothing_more(lab: GuardedLab) -> None:
    log_trials(lab, on_trial(lab), 300, errors=60)
    guard = CanaryGuard(lab)
    guard.step()
    lines, facts = len(lab.ledger.assignments()), len(lab.ledger.facts())

    assert guard.step() is None
    CanaryGuard(lab).step()

    assert (len(lab.ledger.assignments()), len(lab.ledger.facts())) == (lines, facts)


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


def test_passing_is_recorded_once_and_promotes_nobody(lab: GuardedLab) -> None:
    line = on_trial(lab)
    log_trials(lab, line, 400)
    lab.after(30)
    guard = CanaryGuard(lab)

    guard.step()
    guard.step()

    ((subject, body),) = trials(lab)
    assert (subject, body["outcome"], body["cause"]) == (str(line.id), "passed", None)
    assert (canary(lab), lab.ledger.champion().version) == (2, 1)


def test_who_passed_is_watched_on_for_harm_and_not_for_time(lab: GuardedLab) -> None:
    line = on_trial(lab)
    log_trials(lab, line, 400)
    lab.after(30)
    guard = CanaryGuard(lab)
    guard.step()
    log_trials(lab, line, 100, errors=9)  # still open whether it errs too often
    lab.after(5_000)
    CanaryGuard(lab).step()
    assert canary(lab) == 2

    log_trials(lab, line, 400, errors=150)
    guard.step()

    assert [body["outcome"] for _, body in trials(lab)] == ["passed", "abort"]
    assert canary(lab) is None


def test_who_passed_beside_an_earlier_champion_has_its_trial_to_do_again(lab: GuardedLab) -> None:
    line = on_trial(lab)
    log_trials(lab, line, 400)
    lab.after(30)
    CanaryGuard(lab).step()
    require_passed(line, lab)
    replaced = lab.ledger.champion().id
    lab.ledger.assign(Role.CHAMPION, 3, replacing=replaced, kind=OVERRIDE, by=OPERATOR, why="a test", at=AT)

    verdict = CanaryGuard(lab).step()
    assert verdict is not None
    assert (verdict.outcome, verdict.figures.requests) == (Outcome.CONTINUE, 0)
    with pytest.raises(PromotionRefused, match="has not passed"):
        require_passed(line, lab)
    lab.after(5_000)
    CanaryGuard(lab).step()

    assert canary(lab) is None
    assert [(body["outcome"], body["cause"], body["champion"]) for _, body in trials(lab)] == [("passed", None, 1), ("abort", "no_data", 3)]


def test_if_somebody_else_changed_the_canary_nothing_is_done(lab: GuardedLab, monkeypatch: pytest.MonkeyPatch) -> None:
    line = on_trial(lab)
    log_trials(lab, line, 300, errors=60)
    guard = CanaryGuard(lab)
    monkeypatch.setattr(guard_module, "judge_canary", lambda *said: (on_trial(lab, 0.2), judge_canary(*said))[1])

    guard.step()

    assert canary(lab) == 2
    assert trials(lab) == []
    assert lab.ledger.state(2) == State.SERVING  # not barred


@pytest.mark.parametrize("dies_at", ["record", "bar"])
def test_a_guard_that_dies_in_the_middle_of_an_abort_is_made_up_for(lab: GuardedLab, monkeypatch: pytest.MonkeyPatch, dies_at: str) -> None:
    line = on_trial(lab)
    log_trials(lab, line, 300, errors=60)
    with monkeypatch.context() as patch:

        def killed(*args: object, **named: object) -> None:
            raise RegistryUnreachable.at("the tests' ledger", "it is down")

        patch.setattr(lab.ledger, dies_at, killed)
        with pytest.raises(RegistryUnreachable):
            CanaryGuard(lab).step()
    assert canary(lab) is None

    CanaryGuard(lab).step()
    CanaryGuard(lab).step()

    ((subject, body),) = trials(lab)
    assert (subject, body["cause"], lab.ledger.state(2)) == (str(line.id), "errors", State.BARRED)


def test_a_promoted_canary_is_on_trial_no_more(lab: GuardedLab) -> None:
    on_trial(lab)
    lab.ledger.assign(Role.CHAMPION, 2, replacing=lab.ledger.champion().id, kind="override", by=OPERATOR, why="cannot wait", at=AT)

    CanaryGuard(lab).step()

    assert canary(lab) is None
    assert trials(lab) == []


def test_without_a_champion_there_is_nothing_to_compare_with(lab: GuardedLab) -> None:
    on_trial(lab)
    lab.ledger.assign(Role.CHAMPION, None, replacing=lab.ledger.champion().id, kind="override", by=OPERATOR, why="out of service", at=AT)

    CanaryGuard(lab).step()

    assert canary(lab) is None


def test_the_watcher_looks_between_messages_and_survives_a_guard_that_fails(lab: GuardedLab, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        raise RegistryUnreachable.at("the tests' ledger", "it is down")

    monkeypatch.setattr(worker, "GUARD_EVERY_S", 0.0)
    watcher = Worker(lab, replace(WATCHING, guard=lambda _: look, facts={}, orders={}))
    relay(lab.outbox, lab.bus)
    waiting = lab.bus.head(CONTROL) - lab.bus.committed("watcher", CONTROL)

    handled = watcher.step()

    assert handled == min(waiting, 100) > 1
    assert len(looks) == handled + 1


def test_the_newest_version_that_the_judge_was_for_is_tried(lab: GuardedLab) -> None:
    assert newest_challenger(lab) == 2
    lab.ledger.refuse(2, "not this one", AT, PLATFORM)
    with pytest.raises(PromotionRefused):
        newest_challenger(lab)
    assert newest_challenger(lab, judged=False) == 3  # for who may overrule that

    for number in (2, 3):
        lab.ledger.bar(number, "bad", AT, PLATFORM)

    with pytest.raises(PromotionRefused, match="no version beside the champion"):
        newest_challenger(lab, judged=False)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.001, 0.0005, float("nan")])
def test_a_share_is_from_a_tenth_of_a_percent_to_all_of_them(lab: GuardedLab, share: float) -> None:
    with pytest.raises(UsageError, match="no share for a canary"):
        begin(2, share, AT, OPERATOR, lab)
    assert canary(lab) is None


def test_only_who_may_win_is_tried(lab: GuardedLab) -> None:
    for version, error, words in (
        (99, UnknownVersion, "no version 99"),
        (3, PromotionRefused, "judge was not for version 3"),
    ):
        with pytest.raises(error, match=words):
            begin(version, 0.1, AT, OPERATOR, lab)
    with pytest.raises(PromotionRefused, match="is the champion"):
        begin(1, 0.1, AT, OPERATOR, lab, why="to see it", override=True)
    assert begin(3, 0.1, AT, OPERATOR, lab, why="to see it", override=True).kind == "override"
    with pytest.raises(UsageError, match="Version 3 is the canary already"):
        begin(2, 0.1, AT, OPERATOR, lab)
    end(AT, OPERATOR, "seen it", lab)
    lab.ledger.bar(2, "bad", AT, PLATFORM)
    with pytest.raises(PromotionRefused, match="is barred"):
        begin(2, 0.1, AT, OPERATOR, lab, why="nevertheless", override=True)
    with pytest.raises(UsageError, match="No canary runs"):
        running(lab)


def test_a_canary_wins_only_after_it_passed_and_was_approved(lab: GuardedLab) -> None:
    line = on_trial(lab)
    with pytest.raises(PromotionRefused, match="has not passed"):
        promote_canary(line, AT, OPERATOR, lab)
    log_trials(lab, line, 400)
    lab.after(30)
    CanaryGuard(lab).step()
    with pytest.raises(PromotionRefused, match="nobody approved it"):
        promote_canary(line, AT, OPERATOR, lab)
    assert (canary(lab), lab.ledger.champion().version) == (2, 1)
    lab.approvals.approve_by_policy(2, lab.policy.digest(), "judged", AT)

    promote_canary(line, AT, OPERATOR, lab)

    assert (canary(lab), lab.ledger.champion().version) == (None, 2)


def test_a_fault_fails_a_share_of_the_requests_and_always_the_same() -> None:
    faults, off = Faults(0.05), Faults()
    ids = [f"request-{i}" for i in range(20_000)]

    assert sum(map(faults.fails, ids)) / len(ids) == pytest.approx(0.05, abs=0.006)
    assert [faults.fails(each) for each in ids[:500]] == [Faults(0.05).fails(each) for each in ids[:500]]
    assert not any(map(off.fails, ids))
    assert all(map(Faults(1.0).fails, ids))


def test_a_verdict_is_plain_json(lab: GuardedLab) -> None:
    on_trial(lab)

    found = CanaryGuard(lab).look()

    assert found is not None
    json.dumps(found[1].to_dict(), allow_nan=False)


def test_the_deadline_lies_before_the_end_of_the_replicas_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_SERVICE__CANARY_LEASE_S", "1800")
    with pytest.raises(SettingsWrong, match=r"DEADLINE_S \(1800\) is not below"):
        load_settings()
    monkeypatch.setenv("LAB_CANARY__DEADLINE_S", "900")
    assert load_settings().canary.deadline_s == 900


def test_whatever_an_idle_worker_stumbles_over_does_not_end_the_guard(
    lab: GuardedLab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as a folder that is called like a part of the log."""
    monkeypatch.setattr(worker, "IDLE_EVERY_S", 0.0)
    monkeypatch.setattr(worker, "GUARD_EVERY_S", 0.0)
    monkeypatch.setattr(worker, "RETRY_S", 0.01)
    looks: list[int] = []
    stumbles: list[int] = []

    def stumble(_: object) -> None:
        stumbles.append(len(looks))
        if watcher._stop.is_set():
            return
        raise IsADirectoryError(21, "Is a directory")

    def look() -> None:
        looks.append(len(looks))
        if len(looks) == 5:
            watcher.stop()

    watcher = Worker(lab, replace(WATCHING, ahead=stumble, idle=stumble, guard=lambda _: look))
    watcher.run()

    assert len(looks) == 5
    assert len(stumbles) >= 4
    assert "worker.stumbled" in caplog.text
    assert "IsADirectoryError" in caplog.text
