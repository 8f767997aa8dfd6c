"""`lab watch`: each closed week ends in one decision."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from mlops_lab.cli.chronicle import shortened
from mlops_lab.cli.opened import open_lab, reached, runs, shown
from mlops_lab.cli.output import Output
from mlops_lab.errors import NotEnoughData, UsageError

if TYPE_CHECKING:
    from mlops_lab.bootstrap import Lab
    from mlops_lab.pipelines.restate import Measured


@click.command
@click.argument("week", metavar="[WEEK]", required=False)
@click.option("--restate", is_flag=True, help="Measure the WEEK again with the labels of today; by itself that goes on for 7.5 days.")
@click.pass_obj
def command(output: Output, week: str | None, restate: bool) -> None:
    """Decide every closed week that is not decided yet, and print all decisions; with a WEEK such as 2013-W14, that one in full.

    A week is measured from the tables alone: data quality, drift of inputs and answers, skill on the labels that have arrived. It ends as
    one of ok, watch, retrain, rollback, data_incident or not_enough_data, and deciding again changes nothing. While `lab up` runs the
    watcher does this by itself, as soon as a week closes.

    Labels that come later, or are corrected, change no decision: what they say is a new version of the week's figures beside the first.
    """
    from mlops_lab.bootstrap.services import WATCHER
    from mlops_lab.cli.ingest import parsed_week
    from mlops_lab.pipelines.restate import versions_of
    from mlops_lab.registry.ledger import RESTATEMENT

    if restate and not week:
        raise UsageError("It is not said which week to measure again.", "name it: `lab watch 2013-W14 --restate`.")
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
        if restate:
            _restate(output, found, lab)
        versions = versions_of(found, lab)
        _show_one(output, found)
        _show_versions(output, versions)
        output.result({"decision": found, "versions": versions, "new": new})
        return
    if not decisions:
        output.say("No week has closed since the service answers. Next: `lab up`, then `lab replay`.")
    latest = {fact.subject: fact.body for fact in lab.ledger.facts(RESTATEMENT)}
    output.table(
        ["week", "decision", "version", "labels", "AUC", "unexplained", "counts", "restated", "because"],
        [_row(decision, latest.get(decision["window"])) for decision in decisions],
    )
    overdue = _overdue(output, lab)
    if new:
        output.say(f"Decided now: {', '.join(new)}. What follows from it is done by the watcher: `lab up`.")
    output.result({"decisions": decisions, "restated": latest, "overdue_outcomes": overdue, "new": new})


def _restate(output: Output, decision: Mapping[str, Any], lab: "Lab") -> None:
    from mlops_lab.cli.opened import present, take_in_logs
    from mlops_lab.pipelines.restate import restate

    take_in_logs(lab)
    if restate(decision, present(lab), lab) is None:
        output.say(f"The labels of {decision['window']} are those of its last version; nothing was recorded.")


def _overdue(output: Output, lab: "Lab") -> int:
    """How many outcomes have waited for their prediction for too long; said where there are any."""
    from mlops_lab.pipelines.overdue import waiting

    at = reached(lab)
    count = 0 if at is None else int(waiting(lab, at)["overdue"].sum())
    if count:
        output.say(f"{count:,} outcomes have waited for their prediction for more than a week: `lab log waiting` lists them.")
    return count


def _decide(lab: "Lab") -> None:
    from mlops_lab.events import Message
    from mlops_lab.pipelines.handlers import close_windows
    from mlops_lab.pipelines.overdue import flag_overdue

    at = reached(lab)
    if at is not None:
        close_windows(Message("ClockReached", at, "clock", {}), lab)
        flag_overdue(at, lab)


def _row(decision: Mapping[str, Any], restated: Mapping[str, Any] | None) -> list[object]:
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
        f"v{restated['version']}: {restated['labels']:,} labels, AUC {_number((restated['performance'] or {}).get('auc'), 3)}"
        if restated
        else "",
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


def _show_versions(output: Output, versions: "Sequence[Measured]") -> None:
    if len(versions) > 1:
        output.table(
            ["version", "labels until", "labels", "AUC", "Brier", "skill", "unexplained", "digest of labels"],
            [[one.version, shown(one.at), one.labels, *_figures(one), one.labels_digest[:12] or None] for one in versions],
            title="What its labels said, and say since more of them arrived",
        )


def _figures(one: "Measured") -> list[object]:
    found = one.performance or {}
    return [
        _number(found.get("auc"), 4),
        _number(found.get("brier"), 4),
        _number(found.get("brier_skill"), 4),
        _number((found.get("unexplained") or {}).get("mean"), 4),
    ]


def _number(value: object, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "-"
