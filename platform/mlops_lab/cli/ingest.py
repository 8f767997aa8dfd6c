"""`lab ingest`: a batch of data through the gate, or into quarantine."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlops_lab.cli.opened import open_lab
from mlops_lab.cli.output import Output
from mlops_lab.errors import BatchUnreadable, DataError, SnapshotRefused, SourceMissing, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlops_lab.bootstrap import Lab
    from mlops_lab.monitoring.window import Window

_WEEK = re.compile(r"^\d{4}-W\d{2}$")


@click.command
@click.argument("which", metavar="[2013-04|2013-W14]...", nargs=-1)
@click.option(
    "--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A batch of your own: flights.csv and weather.csv."
)
@click.option("--week", metavar="2013-W14", help="The week that the folder's batch is of.")
@click.pass_context
def command(ctx: click.Context, which: tuple[str, ...], folder: Path | None, week: str | None) -> None:
    """Take batches of data through the gate: into the tables whole, or into quarantine with the reasons.

    \b
    lab ingest 2013-01                        the weeks of a month, as the airline would send them
    lab ingest 2013-01 2013-02                those of several
    lab ingest 2013-W14                       one week
    lab ingest --folder PATH --week 2013-W14  files of your own

    A batch is a week. The same batch again changes nothing. When the gate refuses one, the others are still taken in, and the command
    leaves with 20; `lab gates explain WEEK` shows what was wrong.
    """
    output = ctx.ensure_object(Output)
    windows = windows_of(which, folder, week)
    lab = open_lab(found_home=True)
    output.say(f"{len(windows)} to take in; the first takes longest, since data and gate are loaded for it.")
    done: list[dict[str, object]] = []
    refused: list[DataError] = []
    for number, window in enumerate(windows, start=1):
        began = time.monotonic()
        try:
            report = take(lab, window, folder)
        except (SnapshotRefused, BatchUnreadable) as error:
            refused.append(error)
            report = _refusal(lab, window, error)
            _show_refusal(output, report)
        else:
            counts = report["rows"]
            assert isinstance(counts, dict)
            rows = ", ".join(f"{count:,} {table}" for table, count in counts.items())
            state = "accepted" if report["new"] else "was accepted before, nothing changed"
            output.say(f"[{number}/{len(windows)}] {window.id} {state}: {rows} ({time.monotonic() - began:.1f} s)")
        done.append(report)
    new = sum(bool(report.get("new")) for report in done)
    if refused:
        first = refused[0]
        if not output.as_json:
            output.error(f"{len(refused)} of {len(windows)} batches refused. {first.what}", first.next_step)
        output.result({"error": {"what": first.what, "next": first.next_step}, "new": new, "batches": done})
        ctx.exit(DataError.exit_code)
    output.say(f"{new} of {len(windows)} batches are new. Next: `lab train`." if new else "Nothing changed: all of it was accepted before.")
    output.result({"new": new, "batches": done})


def windows_of(which: "Sequence[str]", folder: Path | None, week: str | None) -> "list[Window]":
    """The weeks that are meant, in the order in which they are named; each once.

    Raises:
        UsageError: Neither or both ways of saying it, or a text that is no week.
        SourceMissing: A month or week that the data does not have.
    """
    if bool(which) == (folder is not None) or (folder is None) != (week is None):
        raise UsageError("Which batch?", "name a month (2013-04) or a week (2013-W14), or give both --folder and --week.")
    if folder is not None:
        return [parsed_week(week or "")]
    return list(dict.fromkeys(window for text in which for window in _weeks_called(text)))


def _weeks_called(text: str) -> "list[Window]":
    from mlops_lab.flights import source

    if not _WEEK.match(text):
        return source.weeks_of_month(text)
    window = parsed_week(text)
    if not source.FIRST_WEEK <= window <= source.LAST_WEEK:
        raise SourceMissing(f"There are no flights for '{text}'.", f"choose a week from {source.FIRST_WEEK.id} to {source.LAST_WEEK.id}.")
    return [window]


def parsed_week(text: str) -> "Window":
    """The ISO week of a text such as 2013-W14. Raises UsageError where it is none."""
    from mlops_lab.monitoring.window import Window

    try:
        if not _WEEK.match(text):
            raise ValueError(text)
        return Window.of_week(text)
    except ValueError as error:
        raise UsageError(f"'{text}' is no ISO week.", "write it like 2013-W14.") from error


def take(lab: "Lab", window: "Window", folder: Path | None = None) -> dict[str, object]:
    """Take one batch in: the files of a folder, or the week as the airline would send it. Raises SnapshotRefused, BatchUnreadable."""
    from mlops_lab.bootstrap.identities import OPERATOR
    from mlops_lab.data.batch_files import write_batch
    from mlops_lab.flights import source
    from mlops_lab.pipelines.ingest import ingest
    from mlops_lab.pipelines.orders import IngestBatch, order_id

    if folder is None:
        folder = lab.home / "inbox" / window.id
        write_batch(source.load(lab.settings.data).batch(window), folder)
    before = {snapshot.digest for snapshot in lab.snapshots.all()}
    order = IngestBatch(order_id("ingest", window.id), window.end, OPERATOR, str(folder), window.id)
    snapshot = ingest(order, lab)
    new = snapshot.digest not in before
    return {"batch": window.id, "accepted": True, "new": new, "snapshot": snapshot.id, "rows": snapshot.rows, "digest": snapshot.digest}


def _refusal(lab: "Lab", window: "Window", error: DataError) -> dict[str, object]:
    refused = lab.quarantine.get(window.id)
    findings = [finding for finding in refused.verdict["findings"] if not finding["passed"]]
    return {
        "batch": window.id,
        "accepted": False,
        "why": error.what,
        "findings": findings,
        "report": refused.report,
        "folder": refused.folder,
    }


def _show_refusal(output: Output, report: dict[str, object]) -> None:
    findings = report["findings"]
    assert isinstance(findings, list)
    output.say(f"{report['batch']} REFUSED; the report is {report['report']}")
    output.table(
        ["expectation", "table", "refuses", "rows", "broken", "found", "examples"],
        [
            [
                f["expectation"],
                f["table"],
                f["blocking"],
                f["rows"],
                f["failed_rows"],
                f["observed"],
                ", ".join(list(dict.fromkeys(f["examples"]))[:3]),
            ]
            for f in findings
        ],
    )
