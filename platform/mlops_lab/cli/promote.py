"""`lab promote`: somebody else says yes, and a challenger takes the traffic."""

from typing import TYPE_CHECKING

import click

from mlops_lab.cli.opened import identity, open_lab, present, runs, shown
from mlops_lab.cli.output import Output
from mlops_lab.errors import ApprovalRefused, LabError, UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from mlops_lab.bootstrap import Lab


@click.command
@click.argument("version", type=click.IntRange(min=1))
@click.option(
    "--as", "name", metavar="NAME", help="Whose token to use, from the home's keys. Default: approver; with --override: operator."
)
@click.option("--why", metavar="TEXT", help="A sentence for the record. Needed for an override.")
@click.option("--override", is_flag=True, help="Force it past judge, approval and bar. Only an operator may, and it is on the record.")
@click.pass_obj
def command(output: Output, version: int, name: str | None, why: str | None, override: bool) -> None:
    """Approve VERSION, which the judge was for, and give it the traffic.

    Nobody approves what they ordered themselves: the credential of --as (or LAB_TOKEN) has to be an approver's. The change is compare-and-
    set: if somebody else changed the champion meanwhile, nothing happens and you are told who. The service follows within two seconds
    and no request fails.
    """
    lab = open_lab()
    took_in(output, lab)
    lab.ledger.version(version)
    at = present(lab)
    from mlops_lab.pipelines.promote import promote
    from mlops_lab.registry.version import Role

    before = lab.ledger.current(Role.CHAMPION)
    if override and not why:
        raise UsageError("An override needs a reason.", "say it with --why.")
    who, token = identity(lab, name, "operator" if override else "approver")
    if override:
        if who.role != "operator":
            raise ApprovalRefused(f"'{who.name}' is {who.role}, not operator, and may not force a version.", "have an operator do it.")
    elif before is None or before.version != version:
        lab.approvals.approve(version, token, why or "read the judgement and agreed", at)
    if before is not None and before.version == version:
        output.say(f"Version {version} has the traffic already, since {shown(before.at)}; nothing changed.")
        output.result({"version": version, "changed": False, "assignment": before})
        return
    given = promote(version, at, who.name, lab, why=why, kind="override" if override else "promotion")
    told = f"from version {given.from_version}" if given.from_version else "as the first champion"
    output.say(f"Version {version} takes the traffic {told}, as of {shown(at)}, by {who.name} ({given.kind}): {given.why}")
    followed(output, lab)
    output.result({"version": version, "changed": True, "assignment": given})


def took_in(output: Output, lab: "Lab", at: "datetime | None" = None) -> None:
    """Bring local pins into the ledger before anything is decided by it."""
    from mlops_lab.pipelines.pins import take_in_pins

    for taken in take_in_pins(lab, at):
        output.say(f"A local pin was taken in: version {taken.version} has the traffic by an override of '{taken.by}': {taken.why}")


def followed(output: Output, lab: "Lab") -> None:
    """See to it that MLflow's alias follows the ledger, and say who follows by itself."""
    from mlops_lab.bootstrap.running import follower_of
    from mlops_lab.pipelines.promote import project_alias

    if not runs(lab, follower_of(lab.settings)):
        try:
            project_alias(lab)
        except LabError as error:  # what serves is decided and recorded; the alias is for people, and is repaired later
            output.say(f"MLflow's alias could not be brought in line: {error.what}")
    served(output, lab)


def served(output: Output, lab: "Lab") -> None:
    """Say who follows the ledger by itself."""
    from mlops_lab.bootstrap.running import is_inside
    from mlops_lab.bootstrap.services import INFERENCE

    if is_inside(lab.settings) or runs(lab, INFERENCE):  # inside, one that had no model yet may not have seen this one so soon
        output.say("The service follows the ledger within two seconds.")
    else:
        output.say("The service does not run. Next: `lab up`, then `lab replay`.")
