"""Logs on the command line: `lab log`, `lab history`, `lab status`."""

import json
from pathlib import Path

import pytest

from mlops_lab.cli.main import run
from mlops_lab.pipelines.ship import ship
from parcel_builders import MODEL
from pipeline_builders import SmallLab
from shipping_builders import answers, incident, write


@pytest.fixture
def opened(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> SmallLab:
    """The home that every command opens."""
    monkeypatch.setattr("mlops_lab.bootstrap.Lab", lambda settings: lab)
    monkeypatch.setenv("LAB_HOME", str(lab.home))
    return lab


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert run(list(words)) == code
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_log_verify_counts_and_leaves_with_1_when_an_answer_is_missing(
    opened: SmallLab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(opened.home, answers(1, 2), answers(3), answers(4), answers(4))
    ids = tmp_path / "ids"
    ids.write_text("p1\np2\n\np3\np2\n", encoding="utf-8")
    assert "once 3, missing 0, twice 0, of 3 predictions" in said(capsys, "log", "verify", "--ids", str(ids))
    ship(opened)
    assert "once 3, missing 0, twice 0" in said(capsys, "log", "verify", "--ids", str(ids))

    ids.write_text("p1\np4\np9\n", encoding="utf-8")
    assert "missing: p9" in said(capsys, "log", "verify", "--ids", str(ids), code=1)
    assert run(["log", "verify", "--ids", str(ids), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["ids"], found["once"], found["missing"], found["twice"], found["holds"]) == (3, 1, ["p9"], ["p4"], False)

    ids.write_text("\n", encoding="utf-8")
    assert "There is no id in" in said(capsys, "log", "verify", "--ids", str(ids), code=2)
    assert "cannot be read" in said(capsys, "log", "verify", "--ids", str(tmp_path / "nowhere"), code=2)


def test_log_find_shows_every_record_of_a_prediction(opened: SmallLab, capsys: pytest.CaptureFixture[str]) -> None:
    write(opened.home, answers(1))
    assert "replica-1, segment 1" in said(capsys, "log", "find", "p1")
    ship(opened)
    places = [one["place"] for one in json.loads(said(capsys, "log", "find", "p1", "--json"))["records"]]
    assert places == ["log", "table"]
    assert "There is no record of prediction p2" in said(capsys, "log", "find", "p2", code=1)


def test_history_tells_incidents(opened: SmallLab, capsys: pytest.CaptureFixture[str]) -> None:
    write(opened.home, incident(5))
    ship(opened)
    text = " ".join(said(capsys, "history").split())
    assert f"package_refused ({MODEL}/5): the signature is nobody's" in text


def test_status_shows_the_log_of_each_replica(opened: SmallLab, capsys: pytest.CaptureFixture[str]) -> None:
    write(opened.home, answers(1), replica="replica-2")
    (log,) = json.loads(said(capsys, "status", "--json"))["logs"]
    assert (log["replica"], log["unshipped_since"]) == ("replica-2", "2026-01-01T00:00:00Z")
    assert "replica-2" in said(capsys, "status")
    ship(opened)
    (log,) = json.loads(said(capsys, "status", "--json"))["logs"]
    assert log["unshipped_bytes"] == 0 < log["size_bytes"]
