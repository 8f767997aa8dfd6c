"""Faults are found, tried and written down; one that cannot be tried does not count as held."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlops_lab.chaos.catalogue import CATALOGUE, fault_called
from mlops_lab.chaos.fault import Fault, Finding, Result, Size
from mlops_lab.chaos.results import Kept, page, read_results, write_results
from mlops_lab.chaos.runner import prove, require_tools
from mlops_lab.errors import LabError, UnknownName


def test_a_fault_that_cannot_be_tried_does_not_count_as_held() -> None:
    def stumble(*_: object) -> Any:
        raise OSError("no such thing")

    fault: Fault[Any] = Fault("F0", "t", "d", "p", "a", stumble, lambda seen: Finding("all well"))
    (result,) = prove([fault], None, 7, Size.SHORT)  # type: ignore[arg-type]
    assert not result.finding.held
    assert "no such thing" in result.finding.broken[0]


def test_a_missing_program_is_an_error_and_never_a_skip() -> None:
    with pytest.raises(LabError, match="no-such-program"):
        require_tools([replace(CATALOGUE["F1"], needs=("no-such-program",))])


def test_faults_are_found_by_their_id_in_any_case() -> None:
    assert fault_called("f6") is CATALOGUE["F6"]
    with pytest.raises(UnknownName, match="F6"):
        fault_called("F66")


def test_the_page_tells_the_last_result_of_each_fault(tmp_path: Path) -> None:
    good = Kept(Result("F6", Size.LONG, 7, 400.0, Finding("200 kills, 0 lost")), "2026-11-26", "abc1234")
    bad = Kept(Result("F8", Size.SHORT, 7, 8.0, Finding("3 cycles", ("a record was torn",))), "2026-11-26", "abc1234")
    write_results(tmp_path / "faults.json", [bad])
    write_results(tmp_path / "faults.json", [good])

    kept = read_results(tmp_path / "faults.json")
    text = page(CATALOGUE, kept, ["a bug"])

    assert kept == {"F8": bad, "F6": good}
    assert "200 kills, 0 lost" in text
    assert "**no**" in text
    assert "- **F8**: a record was torn" in text
    assert "not tried yet" in text
