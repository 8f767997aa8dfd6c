"""`lab policy`: the policy with its digest, and the report that it is chosen by."""

from datetime import UTC, datetime
from typing import Any

import pytest

from cli_builders import Said, told
from mlops_lab.data.snapshot import Batch
from mlops_lab.monitoring.window import Window
from parcel_builders import parcels, week
from pipeline_builders import SmallLab


def test_the_policy_is_shown_with_its_digest(lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    assert said("policy") == said("policy", "show") == {"policy": lab.policy.to_record(), "digest": lab.policy.digest()}
    assert "LAB_POLICY__K" in told(capsys, "policy")


def test_the_policy_report_scores_each_day_by_a_model_that_did_not_see_it_and_sees_no_april(
    lab: SmallLab, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    class Source:
        """All of the year, as the source has it; what is taken from it is noted."""

        def batch(self, window: Window) -> Batch:
            spans.append(window)
            weeks = [parcels(week(number)) for number in range(1, 14)]
            return Batch("span", window.start, window.end, {"parcels": pd.concat(weeks, ignore_index=True)})

    spans: list[Window] = []
    trained: list[set[int]] = []
    fit = lab.trainer

    def spying(recipe: Any, rows: Any) -> Any:
        trained.append(set((rows.days.astype("int64") % 2).tolist()))
        return fit(recipe, rows)

    monkeypatch.setattr("mlops_lab.flights.source.load", lambda folder: Source())
    monkeypatch.setattr(lab, "trainer", spying)
    found = said("policy", "report", "--years", "40")

    assert [(span.start, span.end) for span in spans] == [(week(1).start, datetime(2013, 4, 1, tzinfo=UTC))]
    assert trained == [{0}, {1}]
    assert found["frozen"] == lab.policy.to_record()
    rules = [(rule["policy"]["k"], rule["policy"]["n"]) for rule in found["report"]["rules"]]
    assert rules == [(2, 2), (2, 3), (2, 4), (3, 4), (3, 5)]
    assert all(0 <= rule["false_alarms"]["weeks_firing"] <= 1 and len(rule["misses"]) == 3 for rule in found["report"]["rules"])
