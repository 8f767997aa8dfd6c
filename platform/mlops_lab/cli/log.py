"""`lab log`: is every answer that was given in the prediction log or its tables, once?"""

import sys
from pathlib import Path

import click

from mlops_lab.cli.opened import open_lab, shown
from mlops_lab.cli.output import Output
from mlops_lab.errors import UsageError

_SHOWN = 10
_LISTED = 50


@click.group("log")
def command() -> None:
    """Look into the prediction log and the tables it is shipped to, from outside: no service has to run, none is asked."""


@command.command
@click.option("--ids", "file", required=True, type=click.Path(path_type=Path), help="A file with one prediction id a line, or -.")
@click.pass_context
def verify(ctx: click.Context, file: Path) -> None:
    """Check that each of these predictions is recorded exactly once.

    Log and table together: a prediction that is shipped and still in the log is there once, if both say the same. Leaves with 1 when one
    is missing or there twice.
    """
    from mlops_lab.pipelines.log_check import joined

    output = ctx.ensure_object(Output)
    ids = _ids(file)
    found = joined(open_lab(), ids)
    output.say(f"once {found.once}, missing {len(found.missing)}, twice {len(found.twice)}, of {len(ids)} predictions")
    for what, those in (("missing", found.missing), ("twice", found.twice)):
        if those:
            more = f" and {len(those) - _SHOWN} more" if len(those) > _SHOWN else ""
            output.say(f"{what}: {', '.join(those[:_SHOWN])}{more}; `lab log find ID` shows where one is")
    if found.unreadable_bytes:
        output.say(f"{found.unreadable_bytes} bytes of the log cannot be read; `lab history` names them once they are recorded.")
    output.result(
        {
            "ids": len(ids),
            "once": found.once,
            "missing": found.missing,
            "twice": found.twice,
            "unreadable_bytes": found.unreadable_bytes,
            "holds": found.holds,
        }
    )
    ctx.exit(0 if found.holds else 1)


@command.command
@click.argument("identifier", metavar="ID")
@click.pass_context
def find(ctx: click.Context, identifier: str) -> None:
    """Show every record of one prediction. Leaves with 1 unless it is there exactly once."""
    from mlops_lab.pipelines.log_check import find, joined

    output = ctx.ensure_object(Output)
    lab = open_lab()
    records = find(lab, identifier)
    output.table(["place", "where", "entity", "version", "variant", "probability"], [[one.place, one.where, *one.says] for one in records])
    holds = joined(lab, [identifier]).holds
    if not records:
        output.say(f"There is no record of prediction {identifier}.")
    elif not holds:
        output.say(f"Prediction {identifier} is recorded more than once, or its records differ.")
    output.result({"prediction_id": identifier, "records": records, "holds": holds})
    ctx.exit(0 if holds else 1)


@command.command
@click.option("--overdue", is_flag=True, help="Only those that have waited for more than a week.")
@click.pass_context
def waiting(ctx: click.Context, overdue: bool) -> None:
    """List the outcomes whose prediction has not turned up. They stay in their table, and are joined whenever it does.

    An outcome may be here before its prediction is: logs and bus are taken in one after the other. One that waits for more than a week is
    overdue: somebody reports what nobody asked for, or predictions are lost.
    """
    from mlops_lab.cli.opened import present, take_in_logs
    from mlops_lab.pipelines.overdue import waiting as waiting_in

    output = ctx.ensure_object(Output)
    lab = open_lab()
    take_in_logs(lab)
    at = present(lab)
    found = waiting_in(lab, at)
    found = found[found["overdue"]] if overdue else found
    rows = [[event, prediction, known.to_pydatetime(), late] for event, prediction, known, late in found.itertuples(index=False, name=None)]
    output.table(["event", "prediction", "known since", "overdue"], rows[:_LISTED])
    if len(rows) > _LISTED:
        output.say(f"{len(rows) - _LISTED:,} more; --json has all of them.")
    output.say(f"{len(rows):,} outcomes wait for their prediction at {shown(at)}, {int(found['overdue'].sum()):,} of them overdue.")
    columns = ("event_id", "prediction_id", "at", "overdue")
    output.result({"at": at, "waiting": [dict(zip(columns, row, strict=True)) for row in rows]})


def _ids(file: Path) -> list[str]:
    """Distinct ids, in order. Raises UsageError where there is none: an empty list proves nothing."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}.", "give a file with one prediction id a line.") from error
    ids = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not ids:
        raise UsageError(f"There is no id in {file}.", "give a file with one prediction id a line.")
    return ids
