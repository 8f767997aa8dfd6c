"""The install script: once, again where a lock changed, anew where it was interrupted, and never into what belongs to somebody else."""

import ast
import importlib.metadata
import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def installer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The install script on an empty folder; the commands it would run are only written down, in `ran`."""
    spec = importlib.util.spec_from_file_location("install_script", ROOT / "requirements" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ran: list[str] = []

    def run(command: list[str], *_: object, **__: object) -> None:
        ran.append(" ".join(Path(word).name for word in command[:4]))
        (tmp_path / ".venv").mkdir(exist_ok=True)

    module.__dict__.update(VENV=tmp_path / ".venv", STAMP=tmp_path / ".venv/.complete", UNFINISHED=tmp_path / ".venv/.unfinished", ran=ran)
    monkeypatch.setattr(module, "run", run)
    monkeypatch.setattr(module, "works", lambda: (tmp_path / ".venv").is_dir())
    monkeypatch.setattr(module, "index_of_pip", lambda pip: {})
    return module


def test_an_install_happens_once(installer: ModuleType) -> None:
    installer.install()
    assert [command.split()[0] for command in installer.ran] == [Path(sys.executable).name, "python", "uv", "uv"]
    installer.ran.clear()

    installer.install()

    assert installer.ran == []


def test_a_changed_lock_is_installed_into_the_same_environment(installer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    installer.install()
    installer.ran.clear()
    monkeypatch.setattr(installer, "stamp", lambda: "another digest\n")

    installer.install()

    assert not any("venv" in command for command in installer.ran)
    assert any(command.startswith("uv pip sync") for command in installer.ran)


@pytest.mark.parametrize("dies_at", [0, 1, 2, 3])
def test_an_interrupted_install_begins_anew(installer: ModuleType, dies_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = installer.run

    def dies(command: list[str], *rest: object, **others: object) -> None:
        whole(command, *rest, **others)
        if len(installer.ran) > dies_at:
            raise KeyboardInterrupt

    monkeypatch.setattr(installer, "run", dies)
    with pytest.raises(KeyboardInterrupt):
        installer.install()
    installer.ran.clear()
    monkeypatch.setattr(installer, "run", whole)

    installer.install()

    assert installer.ran[-1].startswith("uv pip install")
    if dies_at > 0:  # from then on the mark is there
        assert "venv --clear" in installer.ran[0]
    assert not installer.UNFINISHED.exists()


def test_an_environment_that_is_a_link_belongs_to_somebody_else(installer: ModuleType, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    installer.VENV.symlink_to(theirs)

    with pytest.raises(installer.CannotInstall, match="is a link to"):
        installer.install()

    assert installer.ran == []


def test_a_python_that_cannot_do_it_is_told_so(installer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer, "suitable", lambda python: False)
    with pytest.raises(installer.CannotInstall, match=r"no venv and ensurepip.*python3-venv"):
        installer.use_a_suitable_python()
    monkeypatch.setattr(installer, "sys", SimpleNamespace(version_info=(3, 9, 2), executable="/usr/bin/python3"))
    with pytest.raises(installer.CannotInstall, match=r"3\.9.*PYTHON="):
        installer.use_a_suitable_python()


def test_an_old_python_can_read_the_install_script() -> None:
    """It has to get as far as its message about the version."""
    ast.parse((ROOT / "requirements" / "install.py").read_text(), feature_version=(3, 7))
