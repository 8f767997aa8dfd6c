"""Keys that packages are signed with: several are valid at once, and their rotation may be killed anywhere."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hostile_packages import RETIRED, STRANGER, signed
from mlops_lab.bootstrap.lab import Lab
from mlops_lab.cli.main import run
from mlops_lab.errors import SettingsWrong, UsageError
from mlops_lab.scoring.keys import KeyRing, fingerprint, known_keys, rotate, signing_key
from mlops_lab.scoring.manifest import check
from mlops_lab.settings import Settings
from package_builders import a_home, a_leaf, a_serving_process, promote, until
from serving_builders import KEY


def test_several_keys_are_valid_at_once_raw_or_pem_in_a_folder_or_a_file(tmp_path: Path) -> None:
    raw = lambda key: key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)  # noqa: E731
    pem = lambda key: key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)  # noqa: E731
    (tmp_path / "a.pub").write_bytes(raw(KEY))
    (tmp_path / "b.pub").write_bytes(pem(STRANGER))
    (tmp_path / "not-a-key.txt").write_text("left alone")
    (tmp_path / "both.pem").write_bytes(pem(KEY) + b"\n" + pem(RETIRED))

    assert {raw_of(key) for key in KeyRing(tmp_path)} == {raw(KEY), raw(STRANGER)}
    assert {raw_of(key) for key in KeyRing(tmp_path / "both.pem")} == {raw(KEY), raw(RETIRED)}
    (tmp_path / "c.pub").write_bytes(b"no key")
    for place in (tmp_path, tmp_path / "c.pub", tmp_path / "nowhere"):
        with pytest.raises(SettingsWrong):
            iter(KeyRing(place))


def test_a_rotation_that_is_killed_anywhere_leaves_a_valid_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step is a rename; after each, whoever signs next signs with a key that the ring holds."""
    signing_key(tmp_path)
    moves = Path.replace
    for steps in range(5):
        left = [steps]

        def replaced(path: Path, target: Path, left: list[int] = left) -> Path:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return moves(path, target)

        monkeypatch.setattr(Path, "replace", replaced)
        with suppress(KeyboardInterrupt):
            rotate(tmp_path)
        monkeypatch.setattr(Path, "replace", moves)
        valid = {fingerprint(key) for key in KeyRing(tmp_path)}
        assert fingerprint(signing_key(tmp_path).public_key()) in valid, f"after {steps} steps"


def test_what_an_old_key_signed_is_served_until_that_key_is_retired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real service, and `lab keys` beside it: rotate, serve an old signature, retire, refuse one; the model in place stays."""
    lab = a_home(tmp_path / "home")
    monkeypatch.setenv("LAB_HOME", str(lab.home))
    old = signing_key(lab.keys)
    with a_serving_process(lab.home) as (_, client):
        until(client, version=1)
        assert run(["keys", "rotate", "--why", "yearly"]) == 0
        new = signing_key(lab.keys)
        assert check(*lab.packages.get(lab.ledger.version(1).scorer_sha256), [new.public_key()]), "version 1 is signed again"

        promote(lab, lab.packages.put(*signed(a_leaf(0.2), old, lab.model)))
        until(client, version=2)

        assert run(["keys", "retire", fingerprint(new.public_key()), "--why", "the wrong one"]) == UsageError.exit_code
        assert run(["keys", "retire", fingerprint(old.public_key()), "--why", "a year later"]) == 0
        promote(lab, lab.packages.put(*signed(a_leaf(0.3), old, lab.model)))
        said = until(client, trouble="Version 3 could not be put in place")
        assert said["version"] == 2
        assert "signature fits none" in json.dumps(said["degraded"])

        promote(lab, lab.packages.put(*signed(a_leaf(0.4), new, lab.model)))
        until(client, version=4)
    again = Lab(Settings(home=lab.home))
    assert again.trail.verify() is None
    assert {"SigningKeyRotated", "SigningKeyRetired"} <= {entry.action for entry in again.trail.entries()}
    assert [key.state for key in known_keys(lab.keys)] == ["signs", "retired"]


def test_a_replica_trusts_the_keys_of_its_settings_and_not_those_beside_the_packages(tmp_path: Path) -> None:
    """LAB_SERVICE__VERIFYING_KEYS names a file that holds another key: the home's own packages are foreign to this replica."""
    lab = a_home(tmp_path / "home")
    (tmp_path / "trusted.pem").write_bytes(STRANGER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with a_serving_process(lab.home, LAB_SERVICE__VERIFYING_KEYS=str(tmp_path / "trusted.pem")) as (_, client):
        said = until(client, trouble="signature fits none", refused=True)
        assert "version" not in said
        promote(lab, lab.packages.put(*signed(a_leaf(0.4), STRANGER, lab.model)))
        until(client, version=2)


def raw_of(key: Any) -> bytes:
    content: bytes = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return content
