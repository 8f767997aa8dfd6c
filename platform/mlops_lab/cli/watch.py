"""`lab watch`: each closed week ends in one decision."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from mlops_lab.cli.chronicle import shortened
from mlops_lab.cli.opened import open_lab, reached, runs, shown
from mlops_lab.cli.output import Output
from mlops_lab.errors import NotEnoughData

if TYPE_CHECKING:
    from mlops_lab.bootstrap import Lab


@click.command
@click.argument("week", metavar="[WEEK]", required=False)
@click.pass_obj
def command(output: Output, week: str | None) -> None:
    """Decide every closed week that is not decided yet, and print all decisions; with a WEEK such as 2013-W14, that one in full.

    A week is measured from the tables alone: data quality, drift of inputs and answers, skill on the labels that have arrived. It ends as
    one of ok, watch, retrain, rollback, data_incident or not_enough_data, and deciding again changes nothing. While `lab up` runs the
    watcher does this by itself, as soon as a week closes.
    """
    from mlops_lab.bootstrap.services import WATCHER
    from mlops_lab.cli.ingest import parsed_week

    window = parsed_week(week) if week else None
    lab = open_lab()
    before = len(lab.ledger.decisions())
    if runs(lab, WATCHER):
        output.say("The watcher runs and decides by itself; these are its decisions so far.")
    else:
        _decide(lab)
    decisions = list(lab.ledger.decisions())
    new = [decision["window"] for decision in decisions[before:]]
    if window is not None:
        found = next((decision for decision in decisions if decision["window"] == window.id), None)
        if found is None:
            last = f"the last decided one is {decisions[-1]['window']}" if decisions else "none is decided yet"
            raise NotEnoughData(
                f"{window.id} is not decided: it has not closed, or nothing was asked in it.", f"{last}; `lab replay` goes on."
            )
        _show_one(output, found)
        output.result({"decision": found, "new": new})
        return
    if not decisions:
        output.say("No week has closed since the service answers. Next: `lab up`, then `lab replay`.")
    output.table(
        ["week", "decision", "version", "labels", "AUC", "unexplained", "counts", "because"],
        [_row(decision) for decision in decisions],
    )
    if new:
        output.say(f"Decided now: {', '.join(new)}. What follows from it is done by the watcher: `lab up`.")
    output.result({"decisions": decisions, "new": new})


def _decide(lab: "Lab") -> None:
    from mlops_lab.events import Message
    from mlops_lab.pipelines.handlers import close_windows

    at = reached(lab)
    if at is not None:
        close_windows(Message("ClockReached", at, "clock", {}), lab)


def _row(decision: Mapping[str, Any]) -> list[object]:
    evidence = decision["evidence"]
    found = evidence.get("performance") or {}
    unexplained = found.get("unexplained") or {}
    return [
        decision["window"],
        decision["outcome"],
        decision["champion"],
        evidence.get("labels"),
        _number(found.get("auc"), 3),
        _number(unexplained.get("mean"), 4),
        "yes" if decision["counts"] else "",
        shortened(decision["because"], 90),
    ]


def _show_one(output: Output, decision: Mapping[str, Any]) -> None:
    from datetime import datetime

    evidence = decision["evidence"]
    found = evidence.get("performance") or {}
    output.say(f"{decision['window']} ended in '{decision['outcome']}', decided as of {shown(datetime.fromisoformat(decision['at']))}.")
    output.say(decision["because"])
    unexplained = found.get("unexplained") or {}
    rows: list[list[object]] = [
        ["version judged", decision["champion"]],
        ["answers, with label", f"{evidence.get('predictions')}, {evidence.get('labels')} ({evidence.get('coverage', 0):.1%})"],
        ["ROC AUC", _number(found.get("auc"), 4)],
        ["Brier score, skill", f"{_number(found.get('brier'), 4)}, {_number(found.get('brier_skill'), 4)}"],
        ["share late", _number(found.get("base_rate"), 3)],
        ["unexplained loss, 95 %", " ".join(_number(unexplained.get(name), 4) for name in ("mean", "low", "high"))],
        ["counts towards retraining", "yes" if decision["counts"] else "no"],
        ["weeks that count", ", ".join(evidence.get("counted", [])) or "none"],
        ["data quality", "accepted" if (evidence.get("quality") or {}).get("accepted") else "REFUSED"],
    ]
    output.table(["measured", "found"], rows)
    drift = evidence.get("drift")
    if drift:
        columns = [*drift["columns"], drift["prediction"]]
        output.table(
            ["column", "method", "value", "limit", "moved"],
            [[c["name"], c["method"], c["value"], c["threshold"], c["drifted"]] for c in columns],
        )


def _number(value: object, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "-"
