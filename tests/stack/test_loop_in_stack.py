"""The whole loop on real services: Kafka, Redis, PostgreSQL, S3, MLflow, a Prefect server that trains. Nobody calls anything in between."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlops_lab.bootstrap.running import SILENT_S
from stack.dashboards import empty_panels, found
from stack.flows import actions_executed, retrainings, skill_lost
from stack.running import Stack, asked, until
from stack.traces import collected
from trace_evidence import decisions_to_swaps, requests_to_outcomes

UNWATCHED = {"WorkerSilent", "ProcessorBehind", "LoopUnreadable", "WatcherDown", "TargetDown"}
PAGE_AGE_S = 30.0
"""How old a number may be that Prometheus has: it asks every ten seconds, and the watcher keeps a reading for as long."""
INSIDE = (Path(__file__).parent / "story_inside.py").read_text()


@pytest.fixture(scope="module")
def played(stack: Stack) -> dict[str, Any]:
    """The six acts, played once and examined from the stores."""
    return dict(json.loads(stack.python(INSIDE, timeout_s=1500).splitlines()[-1]))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", ["1", "2", "3", "4", "5", "6"])
def test_each_act_of_the_loop_really_happens(played: dict[str, Any], number: str) -> None:
    """The same claims as of the embedded loop, recomputed from PostgreSQL, S3, Kafka, MLflow and Prefect."""
    assert played["acts"][number]["broken"] == []
    assert played["acts"][number]["claims"] > 4


def test_lost_skill_became_a_better_model_by_event_automation_and_flow(stack: Stack, played: dict[str, Any]) -> None:
    assert skill_lost(stack)
    assert actions_executed(stack)
    retrained = retrainings(stack)
    assert retrained
    assert all(run["state_type"] == "COMPLETED" and run["created_by"]["type"] == "AUTOMATION" for run in retrained)
    assert played["decay_to_better_model_s"]  # how many they may be is a claim of its act
    assert stack.model()["version"] == played["assignments"][-1]["version"]


def test_the_policy_that_found_the_loss_is_the_one_that_approved(played: dict[str, Any]) -> None:
    """By digest: the watcher decides, and the flow that trained approves in the policy's name, in another container."""
    assert len(played["policies"]["decided"]) == 1
    assert played["policies"]["approved"] == played["policies"]["decided"]


def test_nothing_that_was_asked_failed(played: dict[str, Any]) -> None:
    assert played["failed_requests"] == 0
    assert played["predictions"] > 30_000
    assert 0.9 < played["label_coverage"] < 1


def test_every_panel_has_data_after_the_loop(stack: Stack, played: dict[str, Any]) -> None:
    assert empty_panels(prometheus(stack)) == []


def test_a_trace_runs_to_the_outcome_and_links_lead_from_a_decision_to_the_swap(
    stack: Stack, played: dict[str, Any], tmp_path: Path
) -> None:
    """Read from what the collector wrote, across five processes and Kafka."""
    spans = collected(stack, tmp_path / "traces")

    assert len(requests_to_outcomes(spans)) > 100
    assert decisions_to_swaps(spans)


def test_prometheus_reaches_what_it_watches(stack: Stack) -> None:
    up = until(lambda: found(prometheus(stack), "up"), lambda results: all(one["value"][1] == "1" for one in results), 60, "not reached")

    assert {one["metric"]["job"] for one in up} >= {"inference", "watcher", "prometheus", "alertmanager"}


def test_of_the_alerts_that_fire_none_says_that_the_watching_itself_is_broken(stack: Stack, played: dict[str, Any]) -> None:
    """Others may fire: the loop had a broken feed and a model that was taken back."""
    rules = {rule["name"] for group in of_prometheus(stack, "rules")["groups"] for rule in group["rules"]}
    heard = {
        each["metric"]["worker"]: float(each["value"][1]) for each in found(prometheus(stack), "time() - lab_loop_worker_heard_seconds")
    }

    assert rules >= UNWATCHED
    assert heard.keys() == {"watcher", "features"}
    assert {name: age_s for name, age_s in heard.items() if age_s > SILENT_S[name] + PAGE_AGE_S} == {}
    until(lambda: firing(stack) & UNWATCHED, lambda broken: not broken, 60, "the watching is broken")


def firing(stack: Stack) -> set[str]:
    return {alert["labels"]["alertname"] for alert in of_prometheus(stack, "alerts")["alerts"] if alert["state"] == "firing"}


def of_prometheus(stack: Stack, what: str) -> Any:
    return asked(f"{prometheus(stack)}/api/v1/{what}")["data"]


def prometheus(stack: Stack) -> str:
    return f"http://127.0.0.1:{stack.port('prometheus')}"
