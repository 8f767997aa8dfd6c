"""`lab events topics`: how much came, what is dead, and who is how far behind."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from cli_builders import Said, Told
from departure_builders import AT, departure, work_on
from mlops_lab.bootstrap import Lab
from mlops_lab.cli.main import run
from mlops_lab.events import CONTROL, OBSERVATIONS, Message
from mlops_lab.events.topics import TOPICS


def test_a_home_where_nothing_happened_says_how_to_begin_and_stays_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "new"))
    for words in (["topics"], ["tail", OBSERVATIONS], ["dead"], ["replay", OBSERVATIONS, "--group", "features", "--to", "start"]):
        assert run(["events", *words]) == 40
    assert "`lab ingest 2013-01`" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_topics_are_listed_before_anything_was_published(told: Told) -> None:
    text = told()

    assert all(name in text for name in TOPICS)
    assert "Next: `lab replay`" in text


def test_topics_say_how_much_came_what_is_dead_and_who_is_how_far_behind(lab: Lab, said: Said, told: Told) -> None:
    lab.bus.publish(OBSERVATIONS, [departure(1), departure(2, version=7), departure(3)])
    work_on(lab)
    lab.bus.commit("features", OBSERVATIONS, 1)

    row = next(row for row in said("topics")["topics"] if row["topic"] == OBSERVATIONS)
    assert (row["events"], row["dead"], row["readers"], row["partitions"]) == (3, 1, {"features": 2}, 1)
    assert "aircraft" in row["key"]
    assert f"Next: `lab events dead {OBSERVATIONS}`" in told("topics")


def test_a_reader_that_has_not_begun_is_behind_by_all(lab: Lab, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an online store there is no processor: the replicas read facts themselves, as no group."""
    lab.bus.publish(OBSERVATIONS, [departure(1), departure(2)])
    lab.bus.publish(CONTROL, [Message("ClockReached", AT, "clock", {})])
    lab.bus.commit("watcher", CONTROL, 1)

    rows = {row["topic"]: row["readers"] for row in said("topics")["topics"]}
    assert rows[CONTROL] == {"watcher": 0, "trainer": 1}
    assert rows[OBSERVATIONS] == {}
    monkeypatch.setenv("LAB_FEATURES__STORE", "sqlite")
    assert next(row["readers"] for row in said("topics")["topics"] if row["topic"] == OBSERVATIONS) == {"features": 2}


def test_shards_of_a_reader_are_told_one_by_one(lab: Lab, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_FEATURES__STORE", "sqlite")
    lab.bus.publish(OBSERVATIONS, [departure(1), departure(2)])
    lab.bus.commit("features-0-of-2", OBSERVATIONS, 2)
    lab.bus.commit("features-1-of-2", OBSERVATIONS, 1)

    row = next(row for row in said("topics")["topics"] if row["topic"] == OBSERVATIONS)
    assert row["readers"] == {"features-0-of-2": 0, "features-1-of-2": 1}
    assert "no fact counts twice" in said("replay", OBSERVATIONS, "--group", "features-1-of-2", "--to", "start")["again"]


def test_the_embedded_bus_has_no_topics_to_create(told: Told) -> None:
    assert "nothing to create" in told("topics", "--create")


def test_help_loads_no_framework() -> None:
    code = (
        "import sys; from mlops_lab.cli.main import run; "
        "[run(['events', *words, '--help']) for words in ([], ['tail'], ['dead'], ['replay'], ['topics'], ['schemas'])]; "
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"confluent_kafka", "deltalake", "mlflow", "numpy", "pandas", "pyarrow", "pydantic", "sklearn", "sqlalchemy"}
    assert not heavy & {name.partition(".")[0] for name in io.StringIO(done.stderr).read().split()}
