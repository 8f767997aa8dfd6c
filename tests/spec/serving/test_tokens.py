"""Bearer tokens from a file: several at a time, exchanged without a restart and without a gap."""

from pathlib import Path

import pytest

from mlops_lab.errors import SettingsWrong
from mlops_lab.serving.contract import Refusal
from mlops_lab.serving.tokens import Tokens


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("mlops_lab.serving.tokens._LOOK_EVERY_S", 0.0)
    written = tmp_path / "tokens"
    written.write_text("# rotated in May\nold-token\n\n  new-token  \n")
    return written


def opens(tokens: Tokens, token: str) -> bool:
    try:
        tokens.require(f"Bearer {token}".encode(), "feedback")
    except Refusal as refusal:
        return refusal.status != 401
    return True


def test_each_token_of_the_file_opens_and_nothing_else(path: Path) -> None:
    tokens = Tokens(path)
    assert [opens(tokens, token) for token in ("old-token", "new-token")] == [True, True]
    assert not any(opens(tokens, token) for token in ("", "old", "old-token2", "# rotated in May", "rotated"))


def test_a_token_is_exchanged_while_the_service_runs(path: Path) -> None:
    tokens = Tokens(path)
    path.write_text("new-token\nnewest-token\n")
    assert [opens(tokens, token) for token in ("old-token", "new-token", "newest-token")] == [False, True, True]


def test_while_the_file_is_unusable_the_tokens_known_last_stay(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokens = Tokens(path)
    for broken in (b"", b"# nobody\n", b"\xff\xfe"):
        path.write_bytes(broken)
        assert opens(tokens, "old-token")
        assert not opens(tokens, "")
    path.unlink()
    assert opens(tokens, "old-token")
    assert caplog.text.count("serving.tokens_unreadable") >= 4


@pytest.mark.parametrize("content", [None, "", "\n# only a remark\n"])
def test_without_a_token_nothing_starts(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokens").write_text(content)
    with pytest.raises(SettingsWrong, match="no token"):
        Tokens(tmp_path / "tokens")
