"""`lab ingest` and `lab gates`: what is taken in, what is refused with which reasons, and what was accepted is explained."""

from pathlib import Path
from typing import Any

import pytest

from cli_builders import Said, told
from mlops_lab.data.batch_files import write_batch
from mlops_lab.data.snapshot import Batch
from mlops_lab.monitoring.window import Window
from parcel_builders import parcels, week
from pipeline_builders import SmallLab


def a_folder(path: Path, window: Window, **changes: Any) -> str:
    write_batch(Batch(window.id, window.start, window.end, {"parcels": parcels(window).assign(**changes)}), path)
    return str(path)


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (["2013-13"], 20, "choose a month from 2013-01 to 2013-12"),
        (["2014-01"], 20, "choose a month"),
        (["2013-W53"], 2, "write it like 2013-W14"),
        (["2014-W02"], 20, "choose a week from 2013-W01 to 2013-W52"),
        ([], 2, "name a month"),
        (["2013-01", "--week", "2013-W01"], 2, "give both --folder and --week"),
    ],
)
def test_a_batch_that_does_not_exist_is_said_with_those_that_do(
    words: list[str], code: int, hint: str, lab: SmallLab, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hint in told(capsys, "ingest", *words, code=code)


def test_the_same_batch_again_changes_nothing_and_says_so(
    lab: SmallLab, said: Said, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ingest", "--folder", a_folder(tmp_path / "batch", week(7)), "--week", "2013-W07"]

    first = said(*words)
    entries = len(lab.trail.entries())
    assert (first["new"], first["batches"][0]["rows"]) == (1, {"parcels": 420})
    assert "Nothing changed" in told(capsys, *words)
    assert said(*words)["new"] == 0
    assert len(lab.trail.entries()) == entries


def test_a_refused_batch_leaves_with_20_the_reasons_and_the_report(
    lab: SmallLab, said: Said, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ingest", "--folder", a_folder(tmp_path / "heavy", week(7), weight_kg=9000.0), "--week", "2013-W07"]

    found = said(*words, code=20)
    batch = found["batches"][0]
    assert found["error"]["next"].startswith("read the verdict with `lab gates explain 2013-W07`")
    assert [(f["expectation"], f["failed_rows"]) for f in batch["findings"]] == [("weight is between 0 and 50 kg", 420)]
    assert Path(batch["report"]).is_file()
    assert "REFUSED; the report is" in told(capsys, *words, code=20)

    explained = said("gates", "explain", "2013-W07")
    assert (explained["accepted"], explained["verdicts"]) == (False, 1)
    assert str(Path(batch["report"]).parent) == explained["folder"]
    assert [v["accepted"] for v in said("gates")["verdicts"]] == [True] * 6 + [False]


def test_a_repaired_batch_is_accepted_and_its_refusal_is_still_explained(
    lab: SmallLab, said: Said, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said("ingest", "--folder", a_folder(tmp_path / "heavy", week(7), weight_kg=9000.0), "--week", "2013-W07", code=20)
    assert said("ingest", "--folder", a_folder(tmp_path / "good", week(7)), "--week", "2013-W07")["new"] == 1

    assert "other content of 2013-W07 was accepted" in told(capsys, "gates", "explain", "2013-W07")
    assert "did you mean '2013-W07'?" in told(capsys, "gates", "explain", "2013-W77", code=2)


def test_a_folder_that_is_no_batch_goes_into_quarantine_too(lab: SmallLab, said: Said, tmp_path: Path) -> None:
    (tmp_path / "strange").mkdir()
    found = said("ingest", "--folder", str(tmp_path / "strange"), "--week", "2013-W07", code=20)

    assert "lacks parcels.csv" in found["error"]["what"]
    assert not found["batches"][0]["accepted"]
