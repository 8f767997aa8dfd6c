"""`lab rollback`: the traffic goes back to the version before."""

import click

from mlops_lab.cli.opened import identity, open_lab, present, shown
from mlops_lab.cli.output import Output
from mlops_lab.cli.promote import followed
from mlops_lab.errors import ApprovalRefused


@click.command
@click.option("--why", metavar="TEXT", required=True, help="A sentence for the record.")
@click.option("--as", "name", metavar="NAME", help="Whose token to use, from the home's keys. Default: operator.")
@click.pass_obj
def command(output: Output, why: str, name: str | None) -> None:
    """Give the traffic back to the last champion that is not barred, and bar the one that has it now.

    A barred version never comes back by itself; only `lab promote --override` can. The watch rolls back by itself when a champion on
    probation turns out worse than the one it replaced.
    """
    lab = open_lab()
    leaving = lab.ledger.champion()
    assert leaving.version is not None
    who, _ = identity(lab, name, "operator")
    if who.role != "operator":
        raise ApprovalRefused(f"'{who.name}' is {who.role}, not operator, and may not roll back.", "have an operator do it.")
    from mlops_lab.pipelines.promote import roll_back

    at = present(lab)
    given = roll_back(leaving.version, at, why, lab, by=who.name)
    output.say(f"Version {given.version} has the traffic again, as of {shown(at)}; version {leaving.version} is barred: {why}")
    followed(output, lab)
    output.result({"version": given.version, "barred": leaving.version, "assignment": given})
