"""`lab history`: what happened, and what served when."""

from datetime import datetime
from typing import TYPE_CHECKING

import click

from mlops_lab.cli.chronicle import lines, shortened
from mlops_lab.cli.opened import MOMENT, open_lab, shown
from mlops_lab.cli.output import Output
from mlops_lab.errors import NoChampion

if TYPE_CHECKING:
    from mlops_lab.registry.version import Assignment


@click.command
@click.option("--at", type=MOMENT, help="Which version served at this event time (UTC), such as 2013-07-01 or '2013-07-01 12:00Z'.")
@click.pass_obj
def command(output: Output, at: datetime | None) -> None:
    """Tell what happened: each batch, decision, training, judgement, approval and change of champion, in order.

    With --at: which version served at that moment, who gave it the traffic, and why. All times are event time, that is, time in the
    data, not on your watch.
    """
    lab = open_lab()
    assignments = [one for one in lab.ledger.assignments() if one.role == "champion"]
    if at is not None:
        _served(output, assignments, lab.ledger.serving_at(at), at)
        return
    told = lines(lab)
    output.table(
        ["event time", "what", "subject", "by", "why"],
        [[shown(line.at), line.what, line.subject, line.by, shortened(line.says)] for line in told],
    )
    output.table(["served from", "version", "came by", "given by", "why"], [_row(one) for one in assignments], title="What served")
    if not told:
        output.say("Nothing happened yet. Next: `lab ingest 2013-01`.")
    output.result({"timeline": told, "served": assignments})


def _served(output: Output, assignments: "list[Assignment]", served: "Assignment | None", at: datetime) -> None:
    if served is None or served.version is None:
        first = f"the first served from {shown(assignments[0].at)}" if assignments else "`lab promote` makes the first champion"
        raise NoChampion(f"Nothing served at {shown(at)}.", f"{first}; `lab history` shows the whole timeline.")
    after = next((one for one in assignments if one.id > served.id), None)
    until = f"until {shown(after.at)}, when version {after.version} took over ({after.kind})" if after else "to this day"
    output.say(f"At {shown(at)} version {served.version} served: from {shown(served.at)} {until}.")
    output.say(f"It came by {served.kind}, given by {served.by}: {served.why}")
    output.result({"at": at, "served": served, "until": after.at if after else None, "then": after})


def _row(one: "Assignment") -> list[object]:
    return [shown(one.at), one.version, one.kind, one.by, shortened(one.why)]
