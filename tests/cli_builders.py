"""Commands, called in this process as a person or a program calls them. A test names the words that they all begin with by `partial`."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from mlops_lab.cli.main import run

Said = Callable[..., dict[str, Any]]
Told = Callable[..., str]


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    """Run a command with --json; returns its document. The exit code has to be the one expected."""
    capsys.readouterr()
    assert run([*words, "--json"]) == code
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def told(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """Run a command for a person; returns what was said, spaces made one."""
    capsys.readouterr()
    assert run(list(words)) == code
    heard = capsys.readouterr()
    return " ".join((heard.out + heard.err).split())
