"""The whole loop on a shortened year, with real processes and real frameworks, from the first batch to a rollback.

One run serves every test of this file. A runway closes in the third week of production, so that skill is lost for a reason that no input
shows; the policy is quicker than the product's, or the run would need half a year.
"""

import shutil
import socket
import sqlite3
from pathlib import Path

import pytest

from mlops_lab.bootstrap import Lab
from mlops_lab.demo.evidence import Act, examine
from mlops_lab.demo.stores import Stores
from mlops_lab.demo.story import Plan, Story, Teller
from mlops_lab.demo.summary import summarise
from mlops_lab.monitoring.window import Window
from mlops_lab.settings import ConsoleSettings, JudgeSettings, PolicySettings, ServiceSettings, Settings

SHIFTED = Window.of_week("2013-W15")
PLAN = Plan(
    history=(Window.of_week("2013-W04"), Window.of_week("2013-W13")),
    poisoned=Window.of_week("2013-W06"),
    last=Window.of_week("2013-W19"),
    drill_before=Window.of_week("2013-W19"),
    faults=(("concept-shift", SHIFTED),),
)


def settings_of(home: Path) -> Settings:
    """Own ports, and a policy that acts on three weeks in a row."""
    ports = iter(free_ports(3))
    return Settings(
        home=home,
        service=ServiceSettings(port=next(ports)),
        consoles=ConsoleSettings(mlflow_port=next(ports), prefect_port=next(ports)),
        judge=JudgeSettings(weeks=2),
        policy=PolicySettings(k=3, n=3),
    )


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the loop has run. Settings reach the services by environment, as they do for a user."""
    home = tmp_path_factory.mktemp("loop") / "home"
    settings = settings_of(home)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LAB_HOME", str(home))
        environment.setenv("LAB_SERVICE__PORT", str(settings.service.port))
        environment.setenv("LAB_CONSOLES__PREFECT_PORT", str(settings.consoles.prefect_port))
        environment.setenv("LAB_CONSOLES__MLFLOW_PORT", str(settings.consoles.mlflow_port))
        environment.setenv("LAB_JUDGE__WEEKS", str(settings.judge.weeks))
        environment.setenv("LAB_POLICY__K", str(settings.policy.k))
        environment.setenv("LAB_POLICY__N", str(settings.policy.n))
        home.mkdir()
        Story(Lab(settings), Teller(act=lambda number: None, say=print, progress=lambda progress: None, wait=lambda: None), PLAN).run()
    return home


@pytest.fixture(scope="module")
def stores(home: Path) -> Stores:
    return Stores(Lab(settings_of(home)))


@pytest.fixture(scope="module")
def acts(stores: Stores) -> dict[int, Act]:
    return {act.id: act for act in examine(stores)}


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6])
def test_each_act_of_the_loop_really_happens(acts: dict[int, Act], number: int) -> None:
    """Every claim of the act holds, as recomputed from the stores alone."""
    assert acts[number].broken == []
    assert len(acts[number].claims) > 4


def test_weeks_whose_inputs_move_without_loss_of_skill_order_nothing(stores: Stores) -> None:
    """April is warmer than March: the inputs drift from the first week on, and nobody retrains for that."""
    first = stores.decisions[0]

    assert first.window < SHIFTED
    assert first.outcome == "watch"
    assert first.because.startswith("Inputs moved and skill did not")
    assert not [fact for fact in stores.facts_of("order") if fact.body["origin"] == "retrain" and fact.at <= first.at]


def test_the_promoted_model_beats_the_one_before_on_the_shifted_weeks(stores: Stores) -> None:
    summary = summarise(stores)
    better = next(one for one in summary["assignments"] if one["kind"] == "promotion" and one["from_version"] is not None)
    afterwards = next(version for version in summary["versions"] if version["version"] == better["version"])["first_served"]
    week = Window.containing(stores.decisions[-2].window.start).id

    assert afterwards is not None
    assert summary["brier_served_by_week"][week] < summary["brier_never_retrained_by_week"][week]
    assert summary["auc_served_by_week"][week] > summary["auc_never_retrained_by_week"][week]


def test_the_summary_names_every_figure_that_was_promised(stores: Stores) -> None:
    summary = summarise(stores)

    assert [step["id"] for step in summary["steps"]] == [1, 2, 3, 4, 5, 6]
    assert all(step["passed"] and step["title"] and step["seconds"] > 0 for step in summary["steps"])
    assert summary["predictions"] > 30_000
    assert summary["failed_requests"] == 0
    assert sum(summary["answers_by_features"].values()) == summary["predictions"]
    assert summary["answers_by_features"]["fresh"] > 0.99 * summary["predictions"]
    assert 0.9 < summary["label_coverage"] < 1
    assert 0 < summary["decay_to_better_model_s"] < 60
    assert list(summary["auc_served_by_week"]) == [decision["window"] for decision in summary["decisions"]]


def damages() -> dict[str, tuple[str, str]]:
    """By name: the database and the statement that takes one record out of it."""
    return {
        "an audit entry": ("lab.db", "DELETE FROM audit_entry WHERE seq = (SELECT MAX(seq) / 2 FROM audit_entry)"),
        "the last audit entry": ("lab.db", "DELETE FROM audit_entry WHERE seq = (SELECT MAX(seq) FROM audit_entry)"),
        "a decision": ("lab.db", "DELETE FROM fact WHERE id = (SELECT MIN(id) FROM fact WHERE kind = 'decision')"),
        "an approval": ("lab.db", "DELETE FROM fact WHERE id = (SELECT MIN(id) FROM fact WHERE kind = 'approval')"),
        "an assignment": ("lab.db", "DELETE FROM assignment WHERE id = 2"),
        "an attempt": ("replay.db", "DELETE FROM attempt WHERE id = 100"),
        "the last message": (
            "bus.db",
            "DELETE FROM message WHERE topic = 'control' AND offset = (SELECT MAX(offset) FROM message WHERE topic = 'control')",
        ),
        "the references": ("bus.db", "DELETE FROM message WHERE topic = 'references'"),
        "the last decision": ("lab.db", "DELETE FROM fact WHERE id = (SELECT MAX(id) FROM fact WHERE kind = 'decision')"),
        "a message": ("bus.db", "DELETE FROM message WHERE topic = 'observations' AND offset = 100"),
        "an answer that was told": (
            "bus.db",
            "DELETE FROM message WHERE topic = 'answers' AND offset = (SELECT MAX(offset) FROM message WHERE topic = 'answers')",
        ),
        "a flow run": ("prefect/prefect.db", "DELETE FROM flow_run WHERE name LIKE 'retrain%'"),
        "a model version's tag": ("mlflow.db", "DELETE FROM model_version_tags WHERE key = 'scorer_sha256' AND version = 1"),
        "the alias": ("mlflow.db", "DELETE FROM registered_model_aliases"),
    }


@pytest.mark.parametrize("record", damages())
def test_one_record_less_is_found(home: Path, tmp_path: Path, record: str) -> None:
    """The checker believes only what is there: whichever store loses a record, at least one act is no longer shown to have happened."""
    broken = tmp_path / "home"
    shutil.copytree(home, broken)
    database, statement = damages()[record]
    with sqlite3.connect(broken / database) as db:
        assert db.execute(statement).rowcount >= 1
    db.close()

    assert not all(act.passed for act in examine(Stores(Lab(settings_of(broken)))))


@pytest.mark.parametrize("table", ["predictions", "outcomes", "flights"])
def test_one_row_less_in_a_table_is_found(home: Path, tmp_path: Path, table: str) -> None:
    from deltalake import DeltaTable

    broken = tmp_path / "home"
    shutil.copytree(home, broken)
    delta = DeltaTable(broken / "tables" / table)
    column = {"predictions": "prediction_id", "outcomes": "event_id", "flights": "flight_id"}[table]
    victim = delta.to_pyarrow_table(columns=[column])[column][0].as_py()
    delta.delete(f"{column} = '{victim}'")

    assert not all(act.passed for act in examine(Stores(Lab(settings_of(broken)))))


@pytest.mark.parametrize("pattern", ["packages/*/scorer.json", "evidence/judgement-*.parquet", "quarantine/*/*/raw/weather.csv"])
def test_one_file_changed_is_found(home: Path, tmp_path: Path, pattern: str) -> None:
    broken = tmp_path / "home"
    shutil.copytree(home, broken)
    next(iter(sorted(broken.glob(pattern)))).write_bytes(b"{}")

    assert not all(act.passed for act in examine(Stores(Lab(settings_of(broken)))))
