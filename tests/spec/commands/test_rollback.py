"""`lab rollback`: back to an earlier champion, with the ledger or without it."""

import sqlite3

import pytest

from cli_builders import Said, told
from parcel_builders import week
from pipeline_builders import SmallLab

AT = week(7).start
"""Event time of the home's first promotion."""


def test_a_rollback_goes_to_the_version_that_was_chosen_or_nowhere(lab: SmallLab, said: Said) -> None:
    said("promote", "2")
    assert "it has it already" in said("rollback", "--why", "-", "--to", "2", code=30)["error"]["what"]
    assert "never was champion" in said("rollback", "--why", "-", "--to", "7", code=30)["error"]["what"]
    assert lab.ledger.champion().version == 2
    assert said("rollback", "--why", "-", "--to", "1")["version"] == 1
    assert "no earlier champion" in said("rollback", "--why", "-", code=30)["error"]["what"]
    assert not list(lab.home.glob("serving/*/pin.json"))


def a_memory_of(lab: SmallLab, *versions: int) -> None:
    """What a replica keeps that served these versions, the last one now."""
    from mlops_lab.clock import iso
    from mlops_lab.scoring.keys import KeyRing
    from mlops_lab.scoring.store import DirectoryStore
    from mlops_lab.serving.cache import PackageCache
    from mlops_lab.serving.known import Known, KnownFile, Served

    place = lab.home / "serving" / "replica-1"
    lines = [Served(number, at, iso(AT), lab.ledger.version(number).scorer_sha256) for at, number in enumerate(versions, start=1)]
    for line in lines:
        PackageCache(place / "cache", DirectoryStore(lab.home / "packages"), KeyRing(lab.keys)).scorer(line.scorer_sha256, lab.model)
    now, *before = reversed(lines)
    KnownFile(place / "state.json").write(Known(lab.model, now.version, now.assignment, iso(AT), now.scorer_sha256, iso(AT), tuple(before)))


@pytest.mark.parametrize("how", ["missing", "corrupt", "forgotten", "locked", "unreadable"])
def test_a_rollback_needs_no_ledger(how: str, lab: SmallLab, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    said("promote", "2")
    a_memory_of(lab, 1, 2)
    (lab.keys / "mallory.token").write_text("ab" * 32)
    for name in ("catalog", "bus", "tables", "packages"):
        monkeypatch.setattr(type(lab), name, property(lambda self: pytest.fail("nothing else may be needed")))
    lab.ledger.close()  # type: ignore[attr-defined]
    file = lab.home / "lab.db"
    keeps = sqlite3.connect(file, isolation_level=None)
    if how == "locked":
        keeps.execute("BEGIN IMMEDIATE")
    else:
        keeps.close()
        content = file.read_bytes()
        file.unlink()
        if how == "unreadable":
            file.symlink_to(file)
        elif how != "missing":
            file.write_bytes(b"nonsense" * 5000 if how == "corrupt" else b"")

    found = said("rollback", "--why", "a complaint")

    assert (found["version"], found["barred"], found["assignment"], found["replicas"]) == (1, 2, None, ["replica-1"])
    assert (found["pin"]["by"], found["pin"]["why"]) == ("operator", "a complaint")
    assert (lab.home / "serving/replica-1/pin.json").is_file()
    for stranger in ("approver", "trainer", "feedback", "mallory"):
        what = said("rollback", "--why", "-", "--as", stranger, code=30)["error"]["what"]
        assert "not operator" in what or "nobody's" in what
    assert "no replica" in said("rollback", "--why", "once more", code=30)["error"]["what"].lower()

    keeps.close()
    if how != "locked":
        for path in lab.home.glob("lab.db*"):
            path.unlink()
        file.write_bytes(content)


def test_a_local_pin_is_taken_in_before_the_next_decision(lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    said("promote", "2")
    a_memory_of(lab, 1, 2)
    assert said("rollback", "--local", "--why", "a complaint")["because"] == "--local was given"
    assert lab.ledger.champion().version == 2

    assert "A local pin was taken in: version 1" in told(capsys, "promote", "2", code=30)  # and 2 is barred now
    now = lab.ledger.champion()
    assert (now.version, now.kind, now.by, now.why) == (1, "override", "operator", "a complaint")
    assert lab.ledger.state(2) == "barred"
    assert not list(lab.home.glob("serving/*/pin.json"))


def test_a_token_that_nobody_has_rolls_nothing_back(lab: SmallLab, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    a_memory_of(lab, 1, 2)
    monkeypatch.setattr(lab, "settings", lab.settings.model_copy(update={"token": "x" * 64}))
    assert "LAB_TOKEN is no token" in said("rollback", "--local", "--why", "-", code=2)["error"]["what"]
