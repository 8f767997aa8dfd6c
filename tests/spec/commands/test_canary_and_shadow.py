"""`lab canary` and `lab shadow`: who gets which share, how a trial stands, and how it ends."""

import pytest

from cli_builders import Said, told
from mlops_lab.registry.version import Role
from parcel_builders import week
from pipeline_builders import SmallLab

AT = week(7).start
"""Event time of the home's first promotion."""


def test_a_canary_gets_its_share_shows_how_it_stands_and_can_be_ended(
    lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said("canary")["running"] is False
    assert "not operator" in said("canary", "10", "--as", "approver", code=30)["error"]["what"]
    for words in (["200"], ["0"], ["0.05"]):
        assert "no share for a canary" in said("canary", *words, code=2)["error"]["what"]
    assert "neither a percentage" in said("canary", "much", code=2)["error"]["what"]
    assert "needs a reason" in said("canary", "10", "--override", code=2)["error"]["what"]
    assert "no version 9" in said("canary", "10", "--version", "9", code=30)["error"]["what"]
    assert "is the champion" in said("canary", "10", "--version", "1", code=30)["error"]["what"]
    assert "No canary runs" in said("canary", "promote", code=2)["error"]["what"]
    assert lab.ledger.current(Role.CANARY) is None

    begun = said("canary", "10.5%")
    assert (begun["version"], begun["assignment"]["weight"], begun["assignment"]["by"]) == (2, 0.105, "operator")
    found = said("canary")
    assert (found["version"], found["share"], found["passed"], found["verdict"]["outcome"]) == (2, 0.105, False, "continue")
    assert found["verdict"]["figures"]["requests"] == 0
    assert "Verdict so far: continue; 0 of at least 500 requests." in told(capsys, "canary")
    assert "has not passed" in said("canary", "promote", code=30)["error"]["what"]

    assert said("canary", "off", "--why", "enough")["ended"] is True
    assert "No canary runs" in said("canary", "off", code=2)["error"]["what"]


def test_a_canary_that_passed_takes_the_traffic_once_an_approver_says_yes(lab: SmallLab, said: Said) -> None:
    line = said("canary", "10")["assignment"]
    lab.ledger.record("trial", str(line["id"]), {"outcome": "passed", "version": 2, "champion": 1}, at=AT, by="policy:x", why="all is well")

    assert "not approver" in said("canary", "promote", "--as", "operator", code=30)["error"]["what"]
    assert lab.ledger.champion().version == 1
    given = said("canary", "promote", "--as", "approver")["assignment"]

    assert (given["version"], given["by"], given["kind"]) == (2, "approver", "promotion")
    left = lab.ledger.current(Role.CANARY)
    assert left is not None
    assert left.version is None
    assert said("canary")["last"]["outcome"] == "passed"


def test_a_shadow_is_set_by_an_operator_in_steps_of_a_tenth_of_a_percent(
    lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "not operator" in said("shadow", "on", "2", "--as", "approver", code=30)["error"]["what"]
    assert "would be compared with itself" in said("shadow", "on", "1", code=30)["error"]["what"]
    assert "choose one of: 1, 2" in said("shadow", "on", "9", code=30)["error"]["next"]
    assert "no step of 0.1 %" in said("shadow", "on", "2", "--sample", "0.25", code=2)["error"]["what"]
    assert said("shadow", "off")["changed"] is False
    assert lab.ledger.current(Role.SHADOW) is None

    given = said("shadow", "on", "2", "--sample", "12.5", "--why", "a look")
    assert (given["permille"], given["assignment"]["weight"], given["assignment"]["by"]) == (125, 0.125, "operator")
    assert "is shadow already" in told(capsys, "shadow", "on", "2", "--sample", "12.5")
    assert said("shadow", "on", "2")["permille"] == 100
    assert "shadow no longer" in told(capsys, "shadow", "off")
    line = lab.ledger.current(Role.SHADOW)
    assert line is not None
    assert line.version is None

    assert said("shadow", "on")["version"] == 2  # the newest beside the champion
    lab.ledger.bar(2, "a look was enough", line.at, "operator")
    assert "no version beside the champion" in said("shadow", "on", code=30)["error"]["what"]
