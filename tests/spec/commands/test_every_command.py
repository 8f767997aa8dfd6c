"""What holds for every command: help costs nothing, and an empty home says how to begin."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli_builders import told


def test_help_of_every_command_imports_no_framework() -> None:
    code = (
        "import sys; from mlops_lab.cli.main import run; "
        "names = 'ingest train judge promote canary shadow rollback up watch policy'.split(); "
        "names += 'replay break history gates keys log chaos audit'.split(); "
        "[run([name, '--help']) for name in names]; "
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"deltalake", "evidently", "great_expectations", "mlflow", "numpy", "pandas", "prefect", "pyarrow", "sklearn", "sqlalchemy"}
    assert not heavy & {name.partition(".")[0] for name in done.stderr.split()}


@pytest.mark.parametrize(
    "words", [["history"], ["gates"], ["audit"], ["watch"], ["train"], ["judge", "1"], ["promote", "1"], ["canary"], ["replay"]]
)
def test_an_empty_home_says_how_to_begin_and_stays_empty(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy() | {"LAB_HOME": str(tmp_path / "new")})

    assert "`lab ingest 2013-01`" in told(capsys, *words, code=40)
    assert not (tmp_path / "new").exists()
