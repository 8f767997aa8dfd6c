"""Each command of the loop, called as a person calls it, on a small home: what it does, what it says, and with which code it leaves."""

import io
import os
import sqlite3
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import cli_builders
from cli_builders import Said, told
from feedback_builders import a_report
from mlops_lab.cli.chronicle import Chronicle
from mlops_lab.data.batch_files import write_batch
from mlops_lab.data.snapshot import Batch
from mlops_lab.demo.stores import Stores
from mlops_lab.events import FEEDBACK
from mlops_lab.monitoring.window import Window
from mlops_lab.pipelines.ship import ship
from mlops_lab.registry.version import Role
from mlops_lab.replay.journal import Journal
from mlops_lab.replay.session import JOURNAL
from pipeline_builders import SmallLab, a_training, copied, established, parcels, serve, training_flow, week

AT = week(7).start
"""Event time of the home's first promotion."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> SmallLab:
    """Six weeks of history and a champion; then the world turned round, and four weeks of answers are closed and not decided.
    Somebody trained version 2, which the judge was for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlops_lab.pipelines.train.MIN_ROWS", 500)
        lab = established(tmp_path_factory.mktemp("cli") / "home")
        for number in range(7, 11):
            serve(lab, week(number), turned=True)
        ship(lab)
        judgement, _ = training_flow(a_training(week(10).closes_at, "turned"), lab)
    assert judgement.outcome == "promote", judgement.because
    journal = Journal(lab.home / JOURNAL)
    journal.flush(cursor=week(10).closes_at)
    journal.close()
    return lab


@pytest.fixture
def lab(template: SmallLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallLab]:
    """A home of this test's own, which is the one that every command opens; what a command sets in the environment is taken back."""
    made = copied(template, tmp_path / "home")
    before = dict(os.environ)
    monkeypatch.setattr("mlops_lab.bootstrap.Lab", lambda settings: made)
    monkeypatch.setattr("mlops_lab.pipelines.train.MIN_ROWS", 500)
    flow = types.ModuleType("mlops_lab.pipelines.on_prefect")
    flow.__dict__["run_training_flow"] = training_flow
    monkeypatch.setitem(sys.modules, flow.__name__, flow)
    yield made
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def said(lab: SmallLab, capsys: pytest.CaptureFixture[str]) -> Said:
    return partial(cli_builders.said, capsys)


def a_folder(path: Path, window: Window, **changes: Any) -> str:
    write_batch(Batch(window.id, window.start, window.end, {"parcels": parcels(window).assign(**changes)}), path)
    return str(path)


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


# --- ingest and gates -------------------------------------------------------------------------------------------------------------


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


# --- train, judge, promote, rollback ----------------------------------------------------------------------------------------------


def test_the_same_order_trains_once(lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    first = said("train", "--origin", "New routes")
    again = said("train", "--origin", "new routes!")

    assert (first["version"], first["new"], first["order"]) == (3, True, f"train-new-routes-{week(10).closes_at:%Y-%m-%dT%H%M%S}Z")
    assert (again["version"], again["new"]) == (3, False)
    assert first["metrics"]["roc_auc_low"] <= first["metrics"]["roc_auc"] <= first["metrics"]["roc_auc_high"]
    assert [fact.subject for fact in lab.ledger.facts("order_done")] == [first["order"]]
    person = told(capsys, "train", "--origin", "New routes")
    assert "nothing was trained" in person
    assert "Judgement of version 3" in person


def test_event_time_of_a_training_is_that_of_production_or_of_the_history(lab: SmallLab, said: Said) -> None:
    assert said("train")["at"] == "2013-03-11T12:00:00Z"
    (lab.home / JOURNAL).unlink()
    assert said("train", "--origin", "before production")["at"] == "2013-02-11T00:00:00Z"
    assert said("train", "--at", "2013-02-04", "--origin", "earlier")["at"] == "2013-02-04T00:00:00Z"


@pytest.mark.parametrize("words", ["retrain", "Drill", " - "])
def test_an_origin_that_the_platform_gives_itself_is_refused(words: str, lab: SmallLab, capsys: pytest.CaptureFixture[str]) -> None:
    assert "use a few words of your own" in told(capsys, "train", "--origin", words, code=2)
    assert len(lab.ledger.versions()) == 2


def test_a_training_that_fails_holds_back_no_retraining(lab: SmallLab, said: Said) -> None:
    """An order that was begun and never ended would count as running."""
    assert "are needed" in said("train", "--at", "2013-01-14", code=20)["error"]["what"]
    assert not lab.ledger.facts("order", "train-by-hand-2013-01-14T000000Z")


def test_the_champion_is_not_judged_against_itself(lab: SmallLab, said: Said) -> None:
    assert "compared with itself" in said("judge", "1", code=2)["error"]["what"]
    assert "choose one of: 1, 2" in said("judge", "9", code=30)["error"]["next"]
    assert lab.ledger.state(1) == "serving"


def test_a_judgement_can_be_made_anew(lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    found = said("judge", "2")

    assert (found["champion"], found["outcome"]) == (1, "promote")
    assert (lab.home / found["evidence"]["file"]).is_file()
    assert "Next: `lab promote 2`" in told(capsys, "judge", "2")


def test_somebody_else_says_yes_then_it_takes_the_traffic_and_can_give_it_back(
    lab: SmallLab, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    for who in ("trainer", "operator"):
        assert "not approver" in said("promote", "2", "--as", who, code=30)["error"]["what"]
    assert "There is no token of 'nobody'" in said("promote", "2", "--as", "nobody", code=2)["error"]["what"]
    assert lab.ledger.champion().version == 1

    given = said("promote", "2", "--as", "approver", "--why", "read it")
    assert (given["changed"], given["assignment"]["from_version"], given["assignment"]["by"]) == (True, 1, "approver")
    assert said("promote", "2")["changed"] is False
    assert lab.catalog.alias() == 2  # no worker runs here, so the command itself lets the alias follow

    for stranger in ("approver", "feedback"):
        assert f"'{stranger}' is" in said("rollback", "--why", "no", "--as", stranger, code=30)["error"]["what"]
    back = said("rollback", "--why", "a complaint")
    assert (back["version"], back["barred"], lab.ledger.champion().version) == (1, 2, 1)
    assert "it is barred" in said("promote", "2", code=30)["error"]["what"]


def test_an_approver_may_not_approve_what_they_ordered(lab: SmallLab, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops_lab.bootstrap.identities.TRAINER", "approver")
    said("train")

    assert "may not approve it" in said("promote", "3", "--as", "approver", code=30)["error"]["what"]


def test_a_token_of_the_environment_counts_and_has_to_fit_the_name(lab: SmallLab, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    token = (lab.keys / "approver.token").read_text().strip()
    monkeypatch.setattr(lab, "settings", lab.settings.model_copy(update={"token": token}))

    assert "not of 'operator'" in said("promote", "2", "--as", "operator", code=2)["error"]["what"]
    assert said("promote", "2")["assignment"]["by"] == "approver"


def test_an_override_needs_an_operator_and_a_reason_and_passes_the_bar(lab: SmallLab, said: Said) -> None:
    said("promote", "2")
    said("rollback", "--why", "a complaint")

    assert "needs a reason" in said("promote", "2", "--override", code=2)["error"]["what"]
    assert "not operator" in said("promote", "2", "--override", "--why", "now", "--as", "approver", code=30)["error"]["what"]
    forced = said("promote", "2", "--override", "--why", "the complaint was wrong", "--as", "operator")["assignment"]
    assert (forced["kind"], forced["why"]) == ("override", "the complaint was wrong")
    assert lab.trail.entries()[-1].action == "OverrideForced"


def test_a_canary_gets_its_share_shows_how_it_stands_and_can_be_ended(
    lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said("canary")["running"] is False
    assert "not operator" in said("canary", "10", "--as", "approver", code=30)["error"]["what"]
    for words in (["200"], ["0"], ["0.05"]):
        assert "no share for a canary" in said("canary", *words, code=2)["error"]["what"]
    assert "neither a percentage" in said("canary", "much", code=2)["error"]["what"]
    assert "needs a reason" in said("canary", "10", "--override", code=2)["error"]["what"]
    assert "no version 9" in said("canary", "10", "--version", "9", code=30)["error"]["what"]
    assert "is the champion" in said("canary", "10", "--version", "1", code=30)["error"]["what"]
    assert "No canary runs" in said("canary", "promote", code=2)["error"]["what"]
    assert lab.ledger.current(Role.CANARY) is None

    begun = said("canary", "10.5%")
    assert (begun["version"], begun["assignment"]["weight"], begun["assignment"]["by"]) == (2, 0.105, "operator")
    found = said("canary")
    assert (found["version"], found["share"], found["passed"], found["verdict"]["outcome"]) == (2, 0.105, False, "continue")
    assert found["verdict"]["figures"]["requests"] == 0
    assert "Verdict so far: continue; 0 of at least 500 requests." in told(capsys, "canary")
    assert "has not passed" in said("canary", "promote", code=30)["error"]["what"]

    assert said("canary", "off", "--why", "enough")["ended"] is True
    assert "No canary runs" in said("canary", "off", code=2)["error"]["what"]


def test_a_canary_that_passed_takes_the_traffic_once_an_approver_says_yes(lab: SmallLab, said: Said) -> None:
    line = said("canary", "10")["assignment"]
    lab.ledger.record("trial", str(line["id"]), {"outcome": "passed", "version": 2, "champion": 1}, at=AT, by="policy:x", why="all is well")

    assert "not approver" in said("canary", "promote", "--as", "operator", code=30)["error"]["what"]
    assert lab.ledger.champion().version == 1
    given = said("canary", "promote", "--as", "approver")["assignment"]

    assert (given["version"], given["by"], given["kind"]) == (2, "approver", "promotion")
    left = lab.ledger.current(Role.CANARY)
    assert left is not None
    assert left.version is None
    assert said("canary")["last"]["outcome"] == "passed"


def test_who_loses_the_race_is_told_the_winner(lab: SmallLab, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    assign = lab.ledger.assign

    def after_a_rival(role: Role, version: int | None, **how: Any) -> Any:
        assign(role, 1, **(how | {"kind": "override", "by": "rival", "why": "first"}))
        return assign(role, version, **how)

    monkeypatch.setattr(lab.ledger, "assign", after_a_rival)
    assert "the champion is now version 1 by 'rival'" in said("promote", "2", code=30)["error"]["what"]
    assert lab.ledger.champion().by == "rival"


# --- watch, history, audit --------------------------------------------------------------------------------------------------------


def test_closed_weeks_are_decided_once_and_printed(lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    first, again = said("watch"), said("watch")

    assert first["new"] == ["2013-W07", "2013-W08", "2013-W09", "2013-W10"]
    assert [decision["outcome"] for decision in first["decisions"]][:2] == ["watch", "retrain"]
    assert again == first | {"new": []}
    assert said("watch", "2013-W08")["decision"] == first["decisions"][1]
    person = told(capsys, "watch", "2013-W08")
    assert "ended in 'retrain', decided as of 2013-02-25 12:00Z" in person
    assert "counts towards retraining yes" in person


def test_a_week_that_is_not_decided_or_is_none_is_said(lab: SmallLab, said: Said) -> None:
    assert "the last decided one is 2013-W10" in said("watch", "2013-W11", code=20)["error"]["next"]
    assert "write it like 2013-W14" in said("watch", "2013-11", code=2)["error"]["next"]


def test_a_week_is_shown_with_each_version_of_what_its_labels_say(lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    """The decision stands; a label that is corrected weeks later counts when somebody asks for it."""
    before = said("watch", "2013-W08")
    assert [one["version"] for one in before["versions"]] == [1]
    assert "was recorded" in told(capsys, "watch", "2013-W08", "--restate")
    correct(lab, "2013-W08-0050", 40.0)
    after = said("watch", "2013-W08", "--restate")

    first, second = after["versions"]
    assert after["decision"] == before["decision"]
    assert (first, first["version"], second["version"]) == (before["versions"][0], 1, 2)
    assert second["performance"]["base_rate"] > first["performance"]["base_rate"]
    assert f"2 2013-03-11 12:00Z {second['labels']}" in told(capsys, "watch", "2013-W08")
    assert said("watch")["restated"]["2013-W08"]["labels_digest"] == second["labels_digest"]
    assert "v2: " in told(capsys, "watch")
    assert "week restated 2013-W08 platform version 2: " in told(capsys, "history")


def test_restating_wants_a_week(lab: SmallLab, said: Said) -> None:
    assert "`lab watch 2013-W14 --restate`" in said("watch", "--restate", code=2)["error"]["next"]


def test_outcomes_without_a_prediction_are_counted_and_listed(lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    assert said("log", "waiting") == {"at": "2013-03-11T12:00:00Z", "waiting": []}
    lab.bus.publish(FEEDBACK, [a_report(1), a_report(2, at="2013-03-11T11:00:00Z")])

    first, second = said("log", "waiting")["waiting"]
    assert (first["prediction_id"], first["overdue"], second["overdue"]) == ("p1", True, False)
    assert len(said("log", "waiting", "--overdue")["waiting"]) == 1
    assert "2 outcomes wait for their prediction at 2013-03-11 12:00Z, 1 of them overdue" in told(capsys, "log", "waiting")
    assert said("watch")["overdue_outcomes"] == 1
    assert "1 outcomes have waited for their prediction for more than a week" in told(capsys, "watch")
    assert "outcomes overdue until 2013-03-11 12:00Z" in told(capsys, "history")


def correct(lab: SmallLab, parcel: str, hours_late: float) -> None:
    """A later word about a parcel's outcome, on the bus."""
    said = {"event_id": f"corrected-{parcel}", "prediction_id": f"answer-{parcel}", "revision": 9, "outcome": {"hours_late": hours_late}}
    lab.bus.publish(FEEDBACK, [a_report(0, **said, at="2013-03-10T00:00:00Z")])


def test_history_tells_what_served_when(lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    said("promote", "2")

    assert said("history", "--at", "2013-03-01")["served"]["version"] == 1
    assert said("history", "--at", "2013-03-11 12:00Z")["served"]["version"] == 2
    assert said("history", "--at", "2013-03-11T13:00+01:00")["served"]["version"] == 2
    assert "the first served from 2013-02-11 00:00Z" in said("history", "--at", "2013-01-01", code=30)["error"]["next"]
    assert "is no moment" in told(capsys, "history", "--at", "noon", code=2)
    assert "until 2013-03-11 12:00Z, when version 2 took over" in told(capsys, "history", "--at", "2013-03-01")


def test_history_tells_everything_in_order(lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    said("watch")
    timeline = said("history")["timeline"]
    whats = [line["what"] for line in timeline]  # all of the same wall time here, so the kinds stand together

    assert whats[:10] == ["batch accepted"] * 6 + ["judged: promote", "approved", "judged: promote", "week watch"]
    assert whats[-3:] == ["version", "version", "new champion"]
    assert "2013-02-25 12:00Z week retrain 2013-W08 platform" in told(capsys, "history")


def test_an_audit_that_holds_says_so(lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    found = said("audit")

    assert (found["holds"], found["entries"]) == (True, len(lab.trail.entries()))
    assert said("audit", "verify") == found
    assert f"All {found['entries']} entries hold" in told(capsys, "audit")
    assert [entry["seq"] for entry in said("audit", "list", "--last", "2")["entries"]] == [found["entries"] - 1, found["entries"]]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE audit_entry SET reason = 'nothing' WHERE seq = 5", "entry 5 edited"),
        ("DELETE FROM audit_entry WHERE seq = 6", "entry 6 missing"),
        ("UPDATE assignment SET version = 2", "do not agree with the audit trail"),
    ],
)
def test_a_record_that_somebody_touched_leaves_with_40_and_is_named(change: str, says: str, lab: SmallLab, said: Said) -> None:
    with sqlite3.connect(lab.home / "lab.db") as db:
        for (trigger,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {trigger}")
        assert db.execute(change).rowcount == 1

    assert says in said("audit", code=40)["error"]["what"]


# --- policy -----------------------------------------------------------------------------------------------------------------------


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


# --- replay and break -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["replay"], ["break", "concept-shift"]])
def test_without_services_nothing_is_played_or_switched_on(words: list[str], lab: SmallLab, said: Said) -> None:
    error = said(*words, code=50)["error"]

    assert "inference" in error["what"]
    assert "`lab up`" in error["next"]
    assert said("break")["faults"][0]["since"] is None


class Stage:
    """A replay whose weeks are written beforehand: what the platform records in each."""

    def __init__(self, lab: SmallLab, weeks: list[list[str]]) -> None:
        self.lab, self.weeks, self.played = lab, weeks, 0

    def play(self, weeks: int) -> Any:
        from mlops_lab.replay.driver import Progress

        window, ledger = week(11 + self.played), self.lab.ledger
        for what in self.weeks[self.played]:
            if what == "swap":
                now = ledger.champion()
                ledger.assign(Role.CHAMPION, 1, replacing=now.id, kind="override", by="test", why="better", at=window.closes_at)
            else:
                ledger.record_decision(
                    window.id, {"outcome": what, "at": f"{window.closes_at.isoformat()}", "because": "so"}, window.closes_at, "p"
                )
        self.played += 1
        return Progress(window.closes_at, 10, 9, 0, 0.5)


@pytest.fixture
def staged(lab: SmallLab, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[list[str]]], Stage]:
    def make(weeks: list[list[str]]) -> Stage:
        stage = Stage(lab, weeks)
        monkeypatch.setattr("mlops_lab.bootstrap.running.require_works", lambda home, name: None)
        monkeypatch.setattr("mlops_lab.replay.session.Session.play", lambda self, weeks: stage.play(weeks))
        return stage

    return make


def test_a_replay_tells_each_week_and_its_decision(
    staged: Callable[[list[list[str]]], Stage], said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    staged([["ok"], ["watch"], ["ok"]])

    assert [[line["what"] for line in played["happened"]] for played in said("replay", "--weeks", "2")["weeks"]] == [
        ["week ok"],
        ["week watch"],
    ]
    assert "week ok 2013-W13: so" in told(capsys, "replay", "--weeks", "1")


def test_step_by_step_waits_before_each_week(
    staged: Callable[[list[list[str]]], Stage], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = staged([["ok"], ["ok"]])
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))

    assert "Enter plays 2013-W11" in told(capsys, "replay", "--weeks", "2", "--step", code=130)
    assert stage.played == 1  # nobody pressed Enter a second time


@pytest.mark.parametrize(
    ("name", "weeks", "played", "code"),
    [
        ("unit-change", [["watch"], ["data_incident"], ["ok"]], 2, 0),
        ("unit-change", [["watch"]] * 6, 6, 1),
        ("concept-shift", [["watch"], ["retrain", "swap"], ["ok"]], 2, 0),
        ("concept-shift", [["retrain"], ["watch"], ["retrain", "swap"], ["ok"]], 3, 0),  # the first challenger was refused
        ("concept-shift", [["retrain"], *[["watch"]] * 5], 6, 0),
    ],
)
def test_a_fault_is_played_until_the_platform_has_answered_it(
    name: str, weeks: list[list[str]], played: int, code: int, staged: Callable[[list[list[str]]], Stage], said: Said
) -> None:
    stage = staged(weeks)
    found = said("break", name, code=code)

    assert (len(found["weeks"]), stage.played, found["met"]) == (played, played, code == 0)
    assert found["since"] == "2013-03-11T12:00:00Z"


def test_a_fault_is_listed_started_and_ended(lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("LAB_HOME", str(lab.home))
    on = {fault["name"]: fault["since"] for fault in said("break")["faults"]}
    assert set(on.values()) == {None}

    assert said("break", "unit-change", "--no-replay")["since"] == "2013-03-11T12:00:00Z"
    assert said("break", "--list")["faults"] == said("break")["faults"]
    assert {f["name"]: f["since"] for f in said("break")["faults"]}["unit-change"] == "2013-03-11T12:00:00Z"
    assert said("break", "--clear")["cleared"] == ["unit-change"]
    assert "Nothing was on" in told(capsys, "break", "--clear")
    assert "did you mean 'unit-change'?" in told(capsys, "break", "unit-chnge", code=2)
    assert "Which of these?" in told(capsys, "break", "--no-replay", code=2)


def test_the_chronicle_tells_only_what_is_new(lab: SmallLab, capsys: pytest.CaptureFixture[str]) -> None:
    from mlops_lab.cli.output import Output

    chronicle = Chronicle(Output(), lab)
    assert chronicle.tell() == []
    lab.ledger.refuse(1, "too slow", AT, "operator")

    assert [(line.what, line.subject, line.says) for line in chronicle.tell()] == [("refused", "version 1", "too slow")]
    assert "version 1: too slow" in capsys.readouterr().out
    assert chronicle.tell() == []


# --- shadow, rollback without a ledger, replicas --------------------------------------------------------------------------------------


def test_a_shadow_is_set_by_an_operator_in_steps_of_a_tenth_of_a_percent(
    lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "not operator" in said("shadow", "on", "2", "--as", "approver", code=30)["error"]["what"]
    assert "would be compared with itself" in said("shadow", "on", "1", code=30)["error"]["what"]
    assert "choose one of: 1, 2" in said("shadow", "on", "9", code=30)["error"]["next"]
    assert "no step of 0.1 %" in said("shadow", "on", "2", "--sample", "0.25", code=2)["error"]["what"]
    assert said("shadow", "off")["changed"] is False
    assert lab.ledger.current(Role.SHADOW) is None

    given = said("shadow", "on", "2", "--sample", "12.5", "--why", "a look")
    assert (given["permille"], given["assignment"]["weight"], given["assignment"]["by"]) == (125, 0.125, "operator")
    assert "is shadow already" in told(capsys, "shadow", "on", "2", "--sample", "12.5")
    assert said("shadow", "on", "2")["permille"] == 100
    assert "shadow no longer" in told(capsys, "shadow", "off")
    line = lab.ledger.current(Role.SHADOW)
    assert line is not None
    assert line.version is None

    assert said("shadow", "on")["version"] == 2  # the newest beside the champion
    lab.ledger.bar(2, "a look was enough", line.at, "operator")
    assert "no version beside the champion" in said("shadow", "on", code=30)["error"]["what"]


def test_a_rollback_goes_to_the_version_that_was_chosen_or_nowhere(lab: SmallLab, said: Said) -> None:
    said("promote", "2")
    assert "it has it already" in said("rollback", "--why", "-", "--to", "2", code=30)["error"]["what"]
    assert "never was champion" in said("rollback", "--why", "-", "--to", "7", code=30)["error"]["what"]
    assert lab.ledger.champion().version == 2
    assert said("rollback", "--why", "-", "--to", "1")["version"] == 1
    assert "no earlier champion" in said("rollback", "--why", "-", code=30)["error"]["what"]
    assert not list(lab.home.glob("serving/*/pin.json"))


def a_memory_of(lab: SmallLab, *versions: int) -> None:
    """What a replica keeps that served these versions, the last one now."""
    from mlops_lab.clock import iso
    from mlops_lab.scoring.keys import KeyRing
    from mlops_lab.scoring.store import DirectoryStore
    from mlops_lab.serving.cache import PackageCache
    from mlops_lab.serving.known import Known, KnownFile, Served

    place = lab.home / "serving" / "replica-1"
    lines = [Served(number, at, iso(AT), lab.ledger.version(number).scorer_sha256) for at, number in enumerate(versions, start=1)]
    for line in lines:
        PackageCache(place / "cache", DirectoryStore(lab.home / "packages"), KeyRing(lab.keys)).scorer(line.scorer_sha256, lab.model)
    now, *before = reversed(lines)
    KnownFile(place / "state.json").write(Known(lab.model, now.version, now.assignment, iso(AT), now.scorer_sha256, iso(AT), tuple(before)))


@pytest.mark.parametrize("how", ["missing", "corrupt", "forgotten", "locked", "unreadable"])
def test_a_rollback_needs_no_ledger(how: str, lab: SmallLab, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    said("promote", "2")
    a_memory_of(lab, 1, 2)
    (lab.keys / "mallory.token").write_text("ab" * 32)
    for name in ("catalog", "bus", "tables", "packages"):
        monkeypatch.setattr(type(lab), name, property(lambda self: pytest.fail("nothing else may be needed")))
    lab.ledger.close()  # type: ignore[attr-defined]
    file = lab.home / "lab.db"
    keeps = sqlite3.connect(file, isolation_level=None)
    if how == "locked":
        keeps.execute("BEGIN IMMEDIATE")
    else:
        keeps.close()
        content = file.read_bytes()
        file.unlink()
        if how == "unreadable":
            file.symlink_to(file)
        elif how != "missing":
            file.write_bytes(b"nonsense" * 5000 if how == "corrupt" else b"")

    found = said("rollback", "--why", "a complaint")

    assert (found["version"], found["barred"], found["assignment"], found["replicas"]) == (1, 2, None, ["replica-1"])
    assert (found["pin"]["by"], found["pin"]["why"]) == ("operator", "a complaint")
    assert (lab.home / "serving/replica-1/pin.json").is_file()
    for stranger in ("approver", "trainer", "feedback", "mallory"):
        what = said("rollback", "--why", "-", "--as", stranger, code=30)["error"]["what"]
        assert "not operator" in what or "nobody's" in what
    assert "no replica" in said("rollback", "--why", "once more", code=30)["error"]["what"].lower()

    keeps.close()
    if how != "locked":
        for path in lab.home.glob("lab.db*"):
            path.unlink()
        file.write_bytes(content)


def test_a_local_pin_is_taken_in_before_the_next_decision(lab: SmallLab, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    said("promote", "2")
    a_memory_of(lab, 1, 2)
    assert said("rollback", "--local", "--why", "a complaint")["because"] == "--local was given"
    assert lab.ledger.champion().version == 2

    assert "A local pin was taken in: version 1" in told(capsys, "promote", "2", code=30)  # and 2 is barred now
    now = lab.ledger.champion()
    assert (now.version, now.kind, now.by, now.why) == (1, "override", "operator", "a complaint")
    assert lab.ledger.state(2) == "barred"
    assert not list(lab.home.glob("serving/*/pin.json"))


def test_a_token_that_nobody_has_rolls_nothing_back(lab: SmallLab, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    a_memory_of(lab, 1, 2)
    monkeypatch.setattr(lab, "settings", lab.settings.model_copy(update={"token": "x" * 64}))
    assert "LAB_TOKEN is no token" in said("rollback", "--local", "--why", "-", code=2)["error"]["what"]


def test_replicas_have_ports_logs_and_caches_of_their_own() -> None:
    from mlops_lab.bootstrap.services import is_replica, service_specs
    from mlops_lab.errors import SettingsWrong
    from mlops_lab.settings import Settings, load_settings

    one, three = ([service for service in service_specs(load_settings(), number) if is_replica(service.name)] for number in (1, 3))
    assert one == three[:1]
    assert [(each.name, each.address.rpartition(":")[2]) for each in three] == [
        ("inference", "8100"),
        ("inference-2", "8101"),
        ("inference-3", "8102"),
    ]
    assert [(each.env.get("LAB_SERVICE__REPLICA"), each.env.get("LAB_SERVICE__PORT")) for each in three] == [
        (None, None),
        ("replica-2", "8101"),
        ("replica-3", "8102"),
    ]
    for service in ({"port": 65535}, {"replica": "replica-2"}):
        with pytest.raises(SettingsWrong):
            service_specs(Settings(service=service), 2)  # type: ignore[arg-type]


def test_a_home_without_a_finished_demo_is_examined_all_the_same_with_what_its_features_were_worth(
    lab: SmallLab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Stores(lab).predictions
    worth = ["absent", "stale", "stale", *["fresh"] * (len(answers) - 4), None]  # the last one is of an earlier release
    monkeypatch.setattr(Stores, "predictions", answers.assign(feature_state=worth))
    logs = lab.home / "logs"
    logs.mkdir(exist_ok=True)
    (logs / "inference.log").write_text('{"event": "serving.bus_lost"}\n{"event": "serving.bus_found"}\n{"event": "serving.bus_lost"}\n')
    (logs / "inference-2.log").write_text('{"event": "serving.bus_lost"}\n')

    shown = told(capsys, "demo", "--verify", code=40)

    assert "6 A bad challenger is refused, and a degraded one that got past is rolled back NO" in shown
    assert "gain over never retraining none" in shown
    assert f"answers by what features were worth {len(answers) - 4:,} fresh, 2 stale, 1 absent" in shown
    assert "times a replica lost the event bus 3" in shown
