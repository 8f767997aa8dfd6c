"""The core by `make up`, upgraded on its volumes: from an earlier commit to this checkout, and on to a better model by its own loop.

LAB_TEST_UPGRADE_FROM names the earlier commit; without it, it is the one before the present.
"""

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from stack.checkouts import checkout_as_it_is, checkout_of, commit_called
from stack.flows import retrainings
from stack.load import Load
from stack.running import ROOT, Stack, asked

pytestmark = pytest.mark.timeout(1200)

PREDICTED = """
import json
from mlops_lab.bootstrap import Lab
from mlops_lab.data.prediction import PREDICTIONS
lab = Lab.of_environment()
lab.shipper
rows = lab.tables.read(PREDICTIONS)[["prediction_id", "model_version", "probability"]]
print(json.dumps(sorted(rows.itertuples(index=False, name=None))))
"""


@dataclass(frozen=True)
class Notes:
    """What a stack has to keep.

    Attributes:
        commit: What its images were built from.
        model: What the service says of the model that answers.
        versions: As MLflow knows them: number, run and source.
        entries: The audit trail.
        predictions: Id, version and probability of each row.
        secrets: A digest of each, by path.
    """

    commit: str
    model: dict[str, Any]
    versions: list[tuple[str, str, str]]
    entries: list[Any]
    predictions: set[tuple[Any, ...]]
    secrets: dict[str, str]

    @classmethod
    def of(cls, stack: Stack) -> "Notes":
        found = asked(f"http://127.0.0.1:{stack.port('mlflow')}/api/2.0/mlflow/model-versions/search")["model_versions"]
        assert stack.said("audit", "verify")["holds"] is True
        return cls(
            commit=stack.compose("exec", "--no-TTY", "workbench", "cat", "/opt/mlops-lab/COMMIT").strip(),
            model=stack.model(),
            versions=sorted((version["version"], version["run_id"], version["source"]) for version in found),
            entries=stack.said("audit", "list", "--all")["entries"],
            predictions={tuple(row) for row in json.loads(stack.python(PREDICTED).splitlines()[-1])},
            secrets=stack.secrets(),
        )


@dataclass(frozen=True)
class Upgrade:
    """One stack, before and after; `said` is what `make up` printed the second time, `load` what was asked right before it."""

    stack: Stack
    before: Notes
    after: Notes
    said: str
    load: Load


@pytest.fixture(scope="module")
def upgrade(tmp_path_factory: pytest.TempPathFactory, addresses: dict[str, str]) -> Iterator[Upgrade]:
    """A week of the older platform, then the present one on the same volumes. Traffic is as slow as time, so that people play."""
    scratch = tmp_path_factory.mktemp("upgrade")
    earlier = commit_called(addresses.get("LAB_TEST_UPGRADE_FROM", "HEAD~1"))
    core = Stack.of_core(scratch, "mlops-lab-test-upgrade")
    older = replace(
        core, env={**core.env, "STACK_SPEED": "1x"}, folder=checkout_of(earlier, scratch / "older"), left_out=frozenset({"grafana"})
    )
    newer = replace(older, folder=checkout_as_it_is(scratch / "newer"))
    newer.down(volumes=True)  # of a run that was killed
    try:
        older.make_up()
        assert [week["failed"] for week in older.said("replay")["weeks"]] == [0]
        before = Notes.of(older)
        older.compose("stop", "watcher")  # who brings the log into the table
        with Load(older) as load:
            load.goes_on(200)
        said = newer.make_up()
        yield Upgrade(newer, before, Notes.of(newer), said, load)
    finally:
        try:
            newer.keep_logs(Path("runs") / "test-compose" / "upgrade")
        finally:
            newer.down(volumes=True)


def test_make_up_ends_when_all_is_healthy_and_of_this_checkout(upgrade: Upgrade) -> None:
    running = upgrade.stack.long_running()

    assert {"inference", "mlflow", "prefect-server", "prefect-worker", "watcher", "traffic", "workbench", "postgres", "s3"} == set(running)
    assert [name for name in running if not upgrade.stack.healthy(name)] == []
    assert upgrade.before.commit != upgrade.after.commit == commit_called("HEAD")


def test_make_up_names_addresses_that_answer(upgrade: Upgrade) -> None:
    rows = re.findall(r"^ +(\S+) +(http://127\.0\.0\.1:(\d+)/\S*) +\S", upgrade.said, re.MULTILINE)

    ports = {name: int(port) for name, _, port in rows}
    assert ports == {"inference": upgrade.stack.port("inference")} | {
        "mlflow": upgrade.stack.port("mlflow"),
        "prefect-server": upgrade.stack.port("prefect"),
    }
    for _, address, _ in rows:
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert answer.status == 200


def test_the_champion_serves_on(upgrade: Upgrade) -> None:
    before, after = upgrade.before, upgrade.after

    assert before.model["version"] == 1
    assert [after.model[name] for name in ("version", "scorer_sha256", "assignment")] == [
        before.model[name] for name in ("version", "scorer_sha256", "assignment")
    ]
    assert after.versions == before.versions
    assert [number for number, _, _ in after.versions] == ["1"]


def test_the_audit_trail_goes_on_from_where_it_was(upgrade: Upgrade) -> None:
    """It holds on both sides, and no entry was written again."""
    assert len(upgrade.before.entries) > 30
    assert upgrade.after.entries[: len(upgrade.before.entries)] == upgrade.before.entries


def test_no_secret_changes(upgrade: Upgrade) -> None:
    """A newer platform may bring some of its own."""
    assert len(upgrade.before.secrets) > 10
    assert upgrade.before.secrets.items() <= upgrade.after.secrets.items()


def test_every_prediction_is_kept(upgrade: Upgrade) -> None:
    """Those in the table, and those that were only in the service's log."""
    assert len(upgrade.before.predictions) > 6000
    assert upgrade.before.predictions <= upgrade.after.predictions
    upgrade.load.require_in_tables()


def test_the_core_goes_on_to_a_better_model_by_itself(upgrade: Upgrade) -> None:
    """Its own loop: events in a file, features in the service's process, trainings by an automation of Prefect."""
    stack = upgrade.stack

    played = stack.said("break", "concept-shift", "--weeks", "8", timeout_s=900)

    assert (played["met"], played["champion_before"]) == (True, 1)
    assert [week["failed"] for week in played["weeks"]] == [0] * len(played["weeks"])
    retrained = retrainings(stack)
    assert retrained
    assert all(run["state_type"] == "COMPLETED" and run["created_by"]["type"] == "AUTOMATION" for run in retrained)
    assert played["champion_after"] > 1
    assert stack.model()["version"] == played["champion_after"]
    with Load(stack) as load:
        load.goes_on(20)
    assert load.failed == 0
    assert stack.said("audit", "verify")["entries"] > len(upgrade.after.entries)


def test_a_change_of_profile_takes_along_what_the_loop_goes_on_from(upgrade: Upgrade) -> None:
    """To Kafka and Redis and back, with `make up` alone: aircraft and weather that were published before are known on the other bus."""
    core = upgrade.stack
    streaming = replace(core, env={**core.env, "STACK_BUS": "kafka", "STACK_STORE": "redis"}, profiles="streaming")
    assert core.said("break", "--clear")["cleared"] == ["concept-shift"]

    for stack in (streaming, core):
        stack.make_up()
        (week,) = stack.said("replay", timeout_s=900)["weeks"]
        assert week["failed"] == 0
        (decided,) = [line for line in week["happened"] if line["what"].startswith("week ") and line["what"] != "week restated"]
        assert decided["what"] in ("week ok", "week watch", "week retrain", "week rollback"), decided  # any but a data incident
    assert "kafka" not in core.compose("ps", "--all", "--services").split()


def test_a_shallow_clone_says_how_to_get_the_earlier_commit(tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", f"file://{ROOT}", tmp_path / "shallow"], check=True)

    with pytest.raises(AssertionError, match=r"no commit 'HEAD~1'(.|\n)*Next: git fetch --unshallow"):
        commit_called("HEAD~1", tmp_path / "shallow")
