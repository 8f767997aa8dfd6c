"""The guard acts once, whoever else acts and whenever it dies."""

import pytest

from guard_builders import AT, GuardedLab, canary, log_trials, on_trial, trials
from mlops_lab.bootstrap.identities import OPERATOR
from mlops_lab.errors import RegistryUnreachable
from mlops_lab.monitoring.canary import judge_canary
from mlops_lab.pipelines import guard as guard_module
from mlops_lab.pipelines.guard import CanaryGuard
from mlops_lab.registry.version import Role, State


def test_a_second_look_changes_nothing_more(lab: GuardedLab) -> None:
    log_trials(lab, on_trial(lab), 300, errors=60)
    guard = CanaryGuard(lab)
    guard.step()
    lines, facts = len(lab.ledger.assignments()), len(lab.ledger.facts())

    assert guard.step() is None
    CanaryGuard(lab).step()

    assert (len(lab.ledger.assignments()), len(lab.ledger.facts())) == (lines, facts)


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
