"""A canary that passes: on record once, watched on for harm, and promoted only when it was approved."""

import pytest

from guard_builders import AT, GuardedLab, canary, log_trials, on_trial, trials
from mlops_lab.bootstrap.identities import OPERATOR
from mlops_lab.errors import PromotionRefused
from mlops_lab.monitoring.canary import Outcome
from mlops_lab.pipelines.canary import promote_canary, require_passed
from mlops_lab.pipelines.guard import CanaryGuard
from mlops_lab.registry.ledger import OVERRIDE
from mlops_lab.registry.version import Role


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
