"""Preparing a home whose services run elsewhere: what they may see of it, and that it can be done again."""

import stat
from pathlib import Path

import pytest

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.public_keys import PUBLIC, share_public
from mlops_lab.pipelines.stack_home import main, prepare
from mlops_lab.scoring.keys import KeyRing, fingerprint, retire, rotate, signing_key
from mlops_lab.settings import Settings


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(Settings(home=tmp_path / "home"))


def seen(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_home_is_prepared_once_and_again_changes_nothing(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(lab)
    entries, public = len(list(lab.trail.entries())), seen(lab.keys / PUBLIC)

    prepare(Lab(lab.settings))

    assert "is ready" in capsys.readouterr().out
    assert len(list(lab.trail.entries())) == entries > 0
    assert seen(lab.keys / PUBLIC) == public


def test_who_only_verifies_sees_no_secret_but_the_reporters_token(lab: Lab) -> None:
    """The folder is mounted into the service that answers strangers: neither the signing key nor an approver's token may be in it."""
    prepare(lab)

    assert set(seen(lab.keys / PUBLIC)) == {"signing.pub", "feedback.token"}
    assert stat.S_IMODE((lab.keys / PUBLIC / "feedback.token").stat().st_mode) == 0o600
    assert {path.name for path in lab.keys.glob("*.token")} > {"approver.token", "operator.token"}


def test_a_rotated_key_is_shared_and_a_retired_one_taken_away(lab: Lab) -> None:
    prepare(lab)
    old, new = rotate(lab.keys)
    public = share_public(lab.keys)
    assert {fingerprint(key) for key in KeyRing(public)} == {old, new}

    retire(lab.keys, old)
    share_public(lab.keys)

    assert {fingerprint(key) for key in KeyRing(public)} == {new} == {fingerprint(signing_key(lab.keys).public_key())}


def test_a_part_that_does_not_answer_ends_the_job_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"HOME": str(tmp_path), "FEATURES__STORE": "redis", "FEATURES__REDIS": "redis://127.0.0.1:1/0"}.items():
        monkeypatch.setenv(f"LAB_{name}", value)

    assert main() != 0

    assert "Next:" in capsys.readouterr().err
    assert not (tmp_path / "keys" / PUBLIC).exists()
