"""`lab promote`: who may say yes to what, and who wins."""

from typing import Any

import pytest

from cli_builders import Said
from mlops_lab.registry.version import Role
from pipeline_builders import SmallLab


def test_somebody_else_says_yes_then_it_takes_the_traffic_and_can_give_it_back(
    lab: SmallLab, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    for who in ("trainer", "operator"):
        assert "not approver" in said("promote", "2", "--as", who, code=30)["error"]["what"]
    assert "There is no token of 'nobody'" in said("promote", "2", "--as", "nobody", code=2)["error"]["what"]
    assert lab.ledger.champion().version == 1

    given = said("promote", "2", "--as", "approver", "--why", "read it")
    assert (given["changed"], given["assignment"]["from_version"], given["assignment"]["by"]) == (True, 1, "approver")
    assert said("promote", "2")["changed"] is False
    assert lab.catalog.alias() == 2  # no worker runs here, so the command itself lets the alias follow

    for stranger in ("approver", "feedback"):
        assert f"'{stranger}' is" in said("rollback", "--why", "no", "--as", stranger, code=30)["error"]["what"]
    back = said("rollback", "--why", "a complaint")
    assert (back["version"], back["barred"], lab.ledger.champion().version) == (1, 2, 1)
    assert "it is barred" in said("promote", "2", code=30)["error"]["what"]


def test_an_approver_may_not_approve_what_they_ordered(lab: SmallLab, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops_lab.bootstrap.identities.TRAINER", "approver")
    said("train")

    assert "may not approve it" in said("promote", "3", "--as", "approver", code=30)["error"]["what"]


def test_a_token_of_the_environment_counts_and_has_to_fit_the_name(lab: SmallLab, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    token = (lab.keys / "approver.token").read_text().strip()
    monkeypatch.setattr(lab, "settings", lab.settings.model_copy(update={"token": token}))

    assert "not of 'operator'" in said("promote", "2", "--as", "operator", code=2)["error"]["what"]
    assert said("promote", "2")["assignment"]["by"] == "approver"


def test_an_override_needs_an_operator_and_a_reason_and_passes_the_bar(lab: SmallLab, said: Said) -> None:
    said("promote", "2")
    said("rollback", "--why", "a complaint")

    assert "needs a reason" in said("promote", "2", "--override", code=2)["error"]["what"]
    assert "not operator" in said("promote", "2", "--override", "--why", "now", "--as", "approver", code=30)["error"]["what"]
    forced = said("promote", "2", "--override", "--why", "the complaint was wrong", "--as", "operator")["assignment"]
    assert (forced["kind"], forced["why"]) == ("override", "the complaint was wrong")
    assert lab.trail.entries()[-1].action == "OverrideForced"


def test_who_loses_the_race_is_told_the_winner(lab: SmallLab, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    assign = lab.ledger.assign

    def after_a_rival(role: Role, version: int | None, **how: Any) -> Any:
        assign(role, 1, **(how | {"kind": "override", "by": "rival", "why": "first"}))
        return assign(role, version, **how)

    monkeypatch.setattr(lab.ledger, "assign", after_a_rival)
    assert "the champion is now version 1 by 'rival'" in said("promote", "2", code=30)["error"]["what"]
    assert lab.ledger.champion().by == "rival"
