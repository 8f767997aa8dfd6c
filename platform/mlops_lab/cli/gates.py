"""`lab gates`: the verdicts of the data gates."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from mlops_lab.cli.opened import open_lab, shown
from mlops_lab.cli.output import Output
from mlops_lab.errors import UnknownName

if TYPE_CHECKING:
    from mlops_lab.bootstrap import Lab
    from mlops_lab.registry.ledger import Fact


@click.group("gates", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Read the verdicts of the data gates: what was accepted, what was refused, and why.

    Without a word behind it: the list.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_verdicts)


@command.command("list")
@click.pass_obj
def list_verdicts(output: Output) -> None:
    """List every verdict about a batch, in the order in which they were given."""
    lab = open_lab()
    verdicts = _verdicts(lab)
    output.table(
        ["event time", "batch", "verdict", "checked", "failed", "content", "why"],
        [
            [shown(f.at), f.body["subject"], _word(f), f.body["checked"], len(f.body["findings"]), f.body["digest"][:12], f.why]
            for f in verdicts
        ],
    )
    refused = [fact for fact in verdicts if not fact.body["accepted"]]
    if not verdicts:
        output.say("No batch has come yet. Next: `lab ingest 2013-01`.")
    elif refused:
        output.say(f"Next: `lab gates explain {refused[-1].body['subject']}` shows what was wrong with it.")
    output.result({"verdicts": [{"at": fact.at, "why": fact.why, **fact.body} for fact in verdicts]})


@command.command
@click.argument("batch")
@click.pass_obj
def explain(output: Output, batch: str) -> None:
    """Explain the newest verdict about BATCH, such as 2013-W06: which expectations failed, on how many rows, with examples.

    If it was ever refused, the refusal is explained, and where the raw files and the report lie.
    """
    lab = open_lab()
    of_batch = [fact for fact in _verdicts(lab) if fact.body["subject"] == batch]
    if not of_batch:
        raise UnknownName.of("batch with a verdict", batch, {fact.body["subject"] for fact in _verdicts(lab)} or {"(none yet)"})
    fact = next((fact for fact in reversed(of_batch) if not fact.body["accepted"]), of_batch[-1])
    findings = list(fact.body["findings"])
    output.say(f"{batch} was {_word(fact)} as of {shown(fact.at)}: {fact.why}.")
    if findings:
        output.table(
            ["expectation", "table", "effect", "rows", "broken", "found", "examples"],
            [
                [
                    f["expectation"],
                    f["table"],
                    _effect(f),
                    f["rows"],
                    f["failed_rows"],
                    f["observed"],
                    ", ".join(dict.fromkeys(f["examples"])),
                ]
                for f in findings
            ],
        )
    where = lab.home / fact.body["quarantine"] if "quarantine" in fact.body else None
    if where is not None:
        output.say(f"Report: {where / 'report.html'}")
        if (where / "raw").is_dir():
            output.say(f"The files as they came: {where / 'raw'}")
        if of_batch[-1].body["accepted"]:
            output.say(f"Later, as of {shown(of_batch[-1].at)}, other content of {batch} was accepted.")
        else:
            output.say(f"Next: repair a copy of those files, then `lab ingest --folder PATH --week {batch}`.")
    output.result({"batch": batch, "at": fact.at, "why": fact.why, "folder": where, **fact.body, "verdicts": len(of_batch)})


def _verdicts(lab: "Lab") -> "list[Fact]":
    return list(lab.ledger.facts("gate_verdict"))


def _effect(finding: Mapping[str, Any]) -> str:
    return "refuses" if finding["blocking"] else "warns"


def _word(fact: "Fact") -> str:
    return "accepted" if fact.body["accepted"] else "REFUSED"
