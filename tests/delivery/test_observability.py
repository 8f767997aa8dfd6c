"""Metrics, rules and dashboards speak of the same things: a name that code does not have shows nothing and alerts nobody."""

import importlib.util
import json
import os
import re
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from mlops_lab.pipelines.measured import COUNTER, DESCRIBED, PARTS, PREFIX
from mlops_lab.pipelines.on_prometheus import PAGE_S
from stack.dashboards import MAY_BE_EMPTY, empty_panels

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "platform" / "deploy" / "observability"
PAGE = (ROOT / "platform" / "mlops_lab" / "serving" / "on_prometheus.py").read_text()
RULES: list[dict[str, Any]] = [
    rule
    for path in sorted((FOLDER / "rules").glob("*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
OF_OTHERS = {
    "up": "Prometheus, of every target",
    "process_start_time_seconds": "Prometheus, of itself",
    "ALERTS": "Prometheus, of every alert",
    "process_resident_memory_bytes": "the client library",
    "process_cpu_seconds_total": "the client library",
}


def the_dashboards() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dashboards", FOLDER / "grafana" / "dashboards.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DASHBOARDS = the_dashboards()
PANELS = [(uid, panel) for uid, (_, panels) in DASHBOARDS.DASHBOARDS.items() for panel in panels]


def names_of_code() -> set[str]:
    loop = {PREFIX + name for name in DESCRIBED}
    found = set()
    for call, name in re.findall(r"(CounterMetricFamily|GaugeMetricFamily|_histogram|_gauge|_counter)\(\s*\"(lab_\w+)\"", PAGE):
        found |= (
            {f"{name}_total"}
            if "ounter" in call
            else {name}
            if "auge" in call
            else {f"{name}_{part}" for part in ("bucket", "sum", "count")}
        )
    return loop | found


def names_in(query: str) -> set[str]:
    bare = re.sub(r"\{[^}]*\}|\"[^\"]*\"|\[[^\]]*\]|by \([^)]*\)", " ", query)
    return set(re.findall(r"(?<![\w:])(?:lab[:_]\w[\w:]*|process_\w+|up|ALERTS)(?![\w(])", bare))


def test_the_names_of_code_are_read_off_it() -> None:
    assert names_of_code() >= {"lab_serving_replies_total", "lab_serving_predict_seconds_bucket", "lab_loop_week_auc"}


@pytest.mark.parametrize("rule", RULES, ids=[rule.get("alert") or rule["record"] for rule in RULES])
def test_a_rule_looks_at_what_is_measured(rule: dict[str, Any]) -> None:
    used = names_in(rule["expr"])

    assert used
    assert used <= names_of_code() | RECORDED | set(OF_OTHERS)


@pytest.mark.parametrize(("uid", "panel"), PANELS, ids=[f"{uid}: {panel.title}" for uid, panel in PANELS])
def test_a_panel_shows_what_is_measured_and_says_in_which_unit(uid: str, panel: Any) -> None:
    for _, query in panel.queries:
        assert names_in(query) <= names_of_code() | RECORDED | set(OF_OTHERS), query
        assert names_in(query)
    assert panel.unit
    assert panel.title
    assert panel.why.endswith(".")


def test_every_number_of_the_loop_is_looked_at_by_a_rule_or_a_panel() -> None:
    queries = [rule["expr"] for rule in RULES] + [query for _, panel in PANELS for _, query in panel.queries]
    looked_at = {name for query in queries for name in names_in(query)}

    assert {PREFIX + name for name in DESCRIBED} - looked_at == {
        f"{PREFIX}processor_events_total",  # for who looks closer: `lab features` tells the same
        f"{PREFIX}processor_watermark_seconds",
        f"{PREFIX}log_backlog_bytes",
        f"{PREFIX}week_brier",
    } - looked_at


def test_the_json_of_a_dashboard_is_what_its_code_says() -> None:
    assert {path.stem for path in DASHBOARDS.FOLDER.glob("*.json")} == set(DASHBOARDS.DASHBOARDS)
    for uid in DASHBOARDS.DASHBOARDS:
        written = (DASHBOARDS.FOLDER / f"{uid}.json").read_text()
        assert written == DASHBOARDS.text(uid), "run platform/deploy/observability/grafana/dashboards.py"
        assert json.loads(written)["panels"]


@pytest.fixture
def prometheus() -> Iterator[str]:
    """Knows a number for everything, but for what is not a number (`week_auc`) and what is not there (`pages`)."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            [asked] = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)["query"]
            value = {"metric": {}, "value": [0, "NaN" if "week_auc" in asked else "1"]}
            body = json.dumps({"data": {"result": [] if "pages_total" in asked or "ALERTS" in asked else [value]}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_panel_without_data_is_found_and_so_is_one_without_a_number(prometheus: str) -> None:
    assert empty_panels(prometheus) == [
        "loop: Called a person: lab_loop_pages_total",
        "loop: Skill of the champion: lab_loop_week_auc",
    ]


def test_what_may_be_empty_is_asked_by_a_dashboard_and_has_a_reason() -> None:
    assert set(MAY_BE_EMPTY) <= {query for _, panel in PANELS for _, query in panel.queries}
    assert all(MAY_BE_EMPTY.values())


def test_promtool_gets_every_query_of_a_dashboard() -> None:
    [group] = json.loads(DASHBOARDS.as_rules())["groups"]

    assert {rule["expr"] for rule in group["rules"]} == {query for _, panel in PANELS for _, query in panel.queries}


@pytest.mark.parametrize("missing", ["PROMTOOL", "AMTOOL"])
def test_checks_whose_tool_is_missing_fail_and_say_where_it_is_to_be_had(missing: str) -> None:
    tools = {"PROMTOOL": "true", "AMTOOL": "true", missing: "no-such-tool"}
    command = ["bash", str(FOLDER / "lint.sh")]
    done = subprocess.run(command, env=dict(os.environ) | tools, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "There is no no-such-tool.\nNext: apt install prometheus" in done.stderr


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_says_who_is_called_and_where_it_is_written_what_to_do(name: str) -> None:
    alert = ALERTS[name]
    page, _, section = alert["annotations"]["runbook"].partition("#")
    sections = re.findall(r"^## (\w+)$", (ROOT / page).read_text(), re.MULTILINE)

    assert alert["labels"]["severity"] in ("page", "ticket")
    assert alert["annotations"]["summary"]
    assert section == name.lower()
    assert name in sections


def test_every_alert_is_tested_when_it_fires_and_when_it_does_not() -> None:
    cases = yaml.safe_load((FOLDER / "rules" / "tests" / "alerts.yml").read_text())["tests"]
    fires = {rule["alertname"] for case in cases for rule in case["alert_rule_test"] if rule["exp_alerts"]}
    silent = {rule["alertname"] for case in cases for rule in case["alert_rule_test"] if not rule["exp_alerts"]}

    assert fires == silent == set(ALERTS)


def test_counters_are_called_total_and_nothing_else_is() -> None:
    for name, (kind, meaning, _) in DESCRIBED.items():
        assert name.endswith("_total") == (kind == COUNTER), name
        assert meaning.endswith("."), name


def test_the_watchers_page_comes_well_before_prometheus_gives_it_up() -> None:
    said = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["global"]

    assert int(said["scrape_timeout"].removesuffix("s")) >= 1.5 * PAGE_S


def test_an_alert_about_what_can_be_read_names_parts_that_there_are() -> None:
    named = {part for rule in RULES for part in re.findall(r'lab_loop_readable\{part!?="(\w+)"\}', rule["expr"])}

    assert named == {"bus"}
    assert named < set(PARTS)


def test_alertmanager_and_prometheus_know_each_other_by_the_names_of_the_stack() -> None:
    services = yaml.safe_load((ROOT / "platform" / "deploy" / "compose" / "stack.yaml").read_text())["services"]
    said = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    configs = [job for job in said["scrape_configs"] if "dns_sd_configs" in job] + said["alerting"]["alertmanagers"]
    places = {name for job in configs for one in job["dns_sd_configs"] for name in one["names"]}

    assert places <= set(services)
    assert services["watcher"]["environment"]["LAB_METRICS__PORT"] == "9101"
