"""What no file of the project may hold: a secret, the name of a machine or of an index, an image that moves by itself."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Every text file of the project, by its path; what runs and tools leave behind is in other folders, or named here."""
    paths = [path for folder in (".ci", "docs", "platform", "requirements", "tests") for path in (ROOT / folder).rglob("*")]
    paths += [path for path in ROOT.iterdir() if path.name not in {".env", ".git"}]
    files = [path for path in paths if path.is_file() and "__pycache__" not in path.parts and path.suffix not in {".png", ".pyc"}]
    found = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in files}
    assert found.keys() >= {"README.md", ".ci/run", "compose.yaml", "platform/deploy/docker/Dockerfile", "tests/conftest.py"}
    return found


def test_no_file_names_a_machine_or_an_index(texts: dict[str, str]) -> None:
    """The words are put together here, so that this file does not name them either."""
    never = ["py" + "pi.org", "files.python" + "hosted", "/wo" + "rk/", "/ro" + "ot/", "/tm" + "p/w/"]

    assert [(name, word) for name, text in texts.items() for word in never if word in text] == []


SECRETS = {
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "a key of a cloud": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "a token of a service": r"\b(gh[pousr]_[A-Za-z0-9]{30,}|xox[abp]-[A-Za-z0-9-]{10,}|eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{10,})",
    "a password in an address": r"\b[a-z][a-z0-9+]*://[^\s:/@'\"`<>{}$%]+:[^\s:/@'\"`<>{}[\]$%]{6,}@",
    "a password of a setting": r"(?im)^\s*[A-Z_]*(PASSWORD|SECRET|TOKEN|API_KEY):?\s*[:=]\s*[\"']?[A-Za-z0-9+/]{12,}[\"']?\s*$",
}


@pytest.mark.parametrize("kind", SECRETS)
def test_no_secret_is_anywhere(texts: dict[str, str], kind: str) -> None:
    found = [(name, match[0]) for name, text in texts.items() for match in re.finditer(SECRETS[kind], text)]

    assert [(name, secret) for name, secret in found if not re.search(r"of-the-tests|:(secret|hidden)@", secret)] == []


def test_no_image_moves_by_itself(texts: dict[str, str]) -> None:
    """What is pulled by a name that moves is another thing tomorrow."""
    moving = {name: re.findall(r"[\w./}-]+:la" + "test\\b", text) for name, text in texts.items()}

    assert {name: found for name, found in moving.items() if found} == {}
