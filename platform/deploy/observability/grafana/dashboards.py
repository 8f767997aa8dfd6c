"""The dashboards as code: run as a program, this writes the JSON beside it. A test sees that the JSON is what this says.

With `--as-rules` it prints every query as a recording rule instead, so that promtool can read them.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "prometheus"}
PREDICT = 'route="predict"'


class Panel(NamedTuple):
    """One picture.

    Attributes:
        title: What it shows.
        unit: As Grafana calls it; `none` for a plain number.
        why: What a person reads off it, and when to worry.
        queries: Legend and PromQL.
        kind: `timeseries`, `stat`, `state-timeline`, `heatmap` or `bargauge`.
        width: Of 24.
    """

    title: str
    unit: str
    why: str
    queries: Sequence[tuple[str, str]]
    kind: str = "timeseries"
    width: int = 12


DASHBOARDS: Mapping[str, tuple[str, Sequence[Panel]]] = {
    "loop": (
        "1 The loop",
        (
            Panel(
                "Event time",
                "dateTimeAsIso",
                "How far the replay, and the decisions with it, have come.",
                [("decided up to", "lab_loop_event_time_seconds * 1000")],
                "stat",
                6,
            ),
            Panel(
                "Champion",
                "none",
                "The version that has the traffic by the ledger, and the one that answers.",
                [("by the ledger", "lab_loop_champion_version"), ("answers", "lab_serving_model_version")],
                "stat",
                6,
            ),
            Panel(
                "From lost skill to a better model",
                "s",
                "Wall time of the last retraining that took the traffic. The aim is under 120 s.",
                [("last time", "lab_loop_decay_to_better_seconds")],
                "stat",
                6,
            ),
            Panel("Called a person", "none", "Data incidents page; they never train.", [("pages", "lab_loop_pages_total")], "stat", 6),
            Panel(
                "Skill of the champion",
                "none",
                "ROC AUC and Brier skill of each closed week. Below 0, a model is worse than the base rate.",
                [("ROC AUC", "lab_loop_week_auc"), ("Brier skill", "lab_loop_week_brier_skill")],
            ),
            Panel(
                "Unexplained loss",
                "none",
                "Brier score beyond what the model expects of itself, with its interval over days. A week counts when the "
                "low end is above 0; three of four weeks retrain.",
                [("{{bound}}", "lab_loop_week_unexplained_loss")],
            ),
            Panel(
                "Versions",
                "none",
                "Steps are promotions and rollbacks.",
                [("champion", "lab_loop_champion_version"), ("registered", "lab_loop_versions_total")],
            ),
            Panel("Decisions", "none", "How weeks ended so far.", [("{{outcome}}", "lab_loop_decisions_total")]),
            Panel("The traffic was given away", "none", "Promotions, rollbacks, overrides.", [("{{kind}}", "lab_loop_assignments_total")]),
            Panel("Canaries", "none", "Trials that have ended: passed, or aborted.", [("{{outcome}}", "lab_loop_canary_trials_total")]),
            Panel(
                "Judged",
                "none",
                "Challengers for which the judge was, and those it refused.",
                [("{{outcome}}", "lab_loop_judgements_total")],
            ),
        ),
    ),
    "service": (
        "2 The service",
        (
            Panel(
                "Requests",
                "reqps",
                "Prediction requests per second, by status.",
                [("{{status}}", f"sum by (status) (rate(lab_serving_replies_total{{{PREDICT}}}[1m]))")],
            ),
            Panel(
                "Errors",
                "percentunit",
                "Share of prediction requests with a 5xx answer. The promise is under 0.1 %.",
                [("errors", "lab:predict_errors:ratio_rate5m")],
            ),
            Panel(
                "Duration",
                "s",
                "From a request's last byte to its reply.",
                [(f"p{q}", f"histogram_quantile(0.{q}, sum by (le) (rate(lab_serving_predict_seconds_bucket[1m])))") for q in (50, 95, 99)],
            ),
            Panel(
                "Durations",
                "s",
                "How many requests took how long.",
                [("{{le}}", "sum by (le) (increase(lab_serving_predict_seconds_bucket[1m]))")],
                "heatmap",
            ),
            Panel(
                "Answered rows by version",
                "none",
                "A swap is where one version takes over from another.",
                [("{{variant}} {{version}}", 'sum by (variant, version) (rate(lab_serving_predictions_total{purpose="live"}[1m]))')],
            ),
            Panel("Swaps", "none", "Times a replica put a model in place.", [("{{instance}}", "lab_serving_model_swaps_total")]),
            Panel(
                "Prediction log",
                "bytes",
                "Grows while tables or bus are away. Shipped or not: at its limit predictions are refused.",
                [
                    ("not shipped, {{replica}}", "lab_loop_log_backlog_bytes"),
                    ("log of {{instance}}", "lab_serving_log_bytes"),
                    ("limit of {{instance}}", "lab_serving_log_limit_bytes"),
                ],
            ),
            Panel(
                "Age of what the service knows",
                "s",
                "Since the ledger was last heard.",
                [("ledger", "lab_serving_ledger_knowledge_age_seconds")],
            ),
            Panel("Memory", "bytes", "Resident memory of the service.", [("inference", 'process_resident_memory_bytes{job="inference"}')]),
            Panel("CPU", "percentunit", "Share of one core.", [("inference", 'rate(process_cpu_seconds_total{job="inference"}[1m])')]),
        ),
    ),
    "data": (
        "3 Data and drift",
        (
            Panel(
                "Distance from the reference",
                "none",
                "Inputs move with the seasons; that alone retrains nothing.",
                [("{{column}}", "lab_loop_week_drift")],
                "bargauge",
            ),
            Panel("Columns that moved", "percentunit", "Share in the newest week.", [("moved", "lab_loop_week_drifted_ratio")]),
            Panel(
                "Late flights", "percentunit", "The base rate that skill is measured against.", [("late", "lab_loop_week_base_rate_ratio")]
            ),
            Panel(
                "Labels that arrived",
                "percentunit",
                "Below 0.8 a week decides nothing.",
                [("coverage", "lab_loop_week_label_coverage_ratio")],
            ),
            Panel(
                "Features of the answers",
                "none",
                "Fresh, stale or absent, per second.",
                [("{{state}}", "sum by (state) (rate(lab_serving_feature_states_total[1m]))")],
            ),
            Panel(
                "Answered probabilities",
                "none",
                "How often which probability was answered.",
                [("{{le}}", "sum by (le) (increase(lab_serving_probability_bucket[5m]))")],
                "heatmap",
            ),
            Panel(
                "Outcomes not taken in",
                "none",
                "Reported, and not in their table yet; the watcher takes them in every few seconds.",
                [("waiting", "lab_loop_outcomes_waiting")],
            ),
            Panel(
                "Outcomes without a prediction",
                "none",
                "Waited for too long, and are flagged.",
                [("overdue", "lab_loop_overdue_outcomes_total")],
            ),
            Panel("Last decision", "none", "1 for how the newest week ended.", [("{{outcome}}", "lab_loop_last_decision")], "bargauge"),
        ),
    ),
    "pipeline": (
        "4 The pipeline",
        (
            Panel("Training orders", "none", "Given, done, failed.", [("{{state}}", "lab_loop_orders_total")]),
            Panel("Open order", "s", "Age of the oldest training that has not ended.", [("age", "lab_loop_open_order_age_seconds")]),
            Panel("Last training", "s", "From its order to its end.", [("took", "lab_loop_last_training_seconds")], "stat"),
            Panel(
                "Could not be carried out",
                "none",
                "Orders and facts; the ledger has the reason.",
                [("{{kind}}", "lab_loop_failures_total")],
            ),
            Panel("Dead letters", "none", "Events that nobody could use, by topic.", [("{{topic}}", "lab_loop_dead_letters")]),
            Panel(
                "Waits for the bus",
                "none",
                "Spooled events by topic, and the outbox.",
                [("{{topic}}", "lab_loop_spool_waiting"), ("outbox", "lab_loop_outbox_pending")],
            ),
            Panel(
                "Stream processor behind", "none", "Events that are not in the online store yet.", [("behind", "lab_loop_processor_behind")]
            ),
            Panel(
                "Watermark of the stream processor",
                "dateTimeAsIso",
                "Event time up to which facts are in the online store; it stands when nothing comes, or nothing is taken in.",
                [("watermark", "lab_loop_processor_watermark_seconds * 1000")],
            ),
            Panel(
                "Since a worker was heard",
                "s",
                "Grows within a piece of work; minutes are too long.",
                [("{{worker}}", "time() - lab_loop_worker_heard_seconds")],
            ),
            Panel(
                "What the watcher can read",
                "none",
                "0 for a part that is away: its numbers are missing, those of the others are there.",
                [("{{part}}", "lab_loop_readable")],
            ),
        ),
    ),
    "slo": (
        "5 The promise and what is left of it",
        (
            Panel(
                "Availability, three days",
                "percentunit",
                "Promised: 99.9 % of predictions without a server's error.",
                [
                    (
                        "answered",
                        f'1 - (sum(increase(lab_serving_replies_total{{{PREDICT},status=~"5.."}}[3d])) or vector(0)) / '
                        f"sum(increase(lab_serving_replies_total{{{PREDICT}}}[3d]))",
                    )
                ],
                "stat",
            ),
            Panel(
                "Error budget left",
                "percentunit",
                "Of three days' worth. Below 0 the promise is broken.",
                [("left", "lab:error_budget_left:ratio3d")],
                "stat",
            ),
            Panel(
                "Burn rate",
                "none",
                "1 uses the budget up exactly in its time; 14.4 over an hour pages.",
                [
                    ("5 min", "lab:predict_errors:ratio_rate5m / 0.001"),
                    ("1 h", "lab:predict_errors:ratio_rate1h / 0.001"),
                    ("6 h", "lab:predict_errors:ratio_rate6h / 0.001"),
                ],
            ),
            Panel("99th percentile", "s", "Promised: under 250 ms.", [("p99", "lab:predict_seconds:p99_5m")]),
            Panel("Alerts", "none", "What fires now.", [("{{alertname}}", 'ALERTS{alertstate="firing"}')]),
            Panel("What answers", "none", "1 for every part that Prometheus reaches.", [("{{job}}", "up")]),
        ),
    ),
}


def dashboard(uid: str) -> dict[str, Any]:
    """One dashboard in Grafana's own form."""
    title, panels = DASHBOARDS[uid]
    made, x, y = [], 0, 0
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > 24:
            x, y = 0, y + 8
        made.append(_panel(number, panel, x, y))
        x += panel.width
    head = {"uid": f"lab-{uid}", "title": title, "tags": ["mlops-lab"], "timezone": "utc", "schemaVersion": 39, "editable": False}
    return head | {"refresh": "10s", "time": {"from": "now-30m", "to": "now"}, "panels": made}


def _panel(number: int, panel: Panel, x: int, y: int) -> dict[str, Any]:
    targets = [
        {"refId": chr(65 + i), "datasource": SOURCE, "expr": query, "legendFormat": legend}
        | ({"format": "heatmap"} if panel.kind == "heatmap" else {})
        | ({"instant": True} if panel.kind == "bargauge" else {})
        for i, (legend, query) in enumerate(panel.queries)
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.why,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": 8},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": targets,
    }


def text(uid: str) -> str:
    """The file."""
    return json.dumps(dashboard(uid), indent=1, ensure_ascii=False) + "\n"


def as_rules() -> str:
    """All queries in the form of a rule file; JSON is YAML, too."""
    queries = [query for _, panels in DASHBOARDS.values() for panel in panels for _, query in panel.queries]
    rules = [{"record": f"lab:query_{number}", "expr": query} for number, query in enumerate(dict.fromkeys(queries))]
    return json.dumps({"groups": [{"name": "dashboards", "rules": rules}]}, indent=1)


def main() -> None:
    if sys.argv[1:] == ["--as-rules"]:
        print(as_rules())
        return
    FOLDER.mkdir(exist_ok=True)
    for uid in DASHBOARDS:
        (FOLDER / f"{uid}.json").write_text(text(uid), encoding="utf-8")


if __name__ == "__main__":
    main()
