"""`lab rollback`: the traffic goes back to the version before, whatever else is down."""

from typing import TYPE_CHECKING

import click

from mlops_lab.cli.opened import identity, open_lab, present, shown
from mlops_lab.cli.output import Output
from mlops_lab.cli.promote import followed, took_in
from mlops_lab.errors import (
    ApprovalRefused,
    DataError,
    EvidenceMissing,
    LabError,
    LostTheRace,
    NoChampion,
    PromotionRefused,
    UnknownVersion,
    UsageError,
)

if TYPE_CHECKING:
    from mlops_lab.bootstrap import Lab

_PATIENCE_S = 1.0
"""A ledger that is kept by another writer for longer counts as down: who rolls back is in a hurry."""
_DECIDED = (ApprovalRefused, DataError, LostTheRace, PromotionRefused, UnknownVersion, UsageError)
"""The ledger answered, and the answer is no."""


@click.command
@click.option("--why", metavar="TEXT", required=True, help="A sentence for the record.")
@click.option("--to", metavar="VERSION", type=click.IntRange(min=1), help="The version to go back to. Default: the champion before.")
@click.option("--local", is_flag=True, help="By a local pin, also where the ledger can be reached.")
@click.option("--as", "name", metavar="NAME", help="Whose token to use, from the home's keys. Default: operator.")
@click.pass_obj
def command(output: Output, why: str, to: int | None, local: bool, name: str | None) -> None:
    """Give the traffic back to the last champion that is not barred, and bar the one that has it now.

    A barred version never comes back by itself; only `lab promote --override` can. The watch rolls back by itself when a champion on
    probation turns out worse than the one it replaced.

    Where the ledger cannot be reached, a signed local pin is written into each replica's folder, if the token is that of an operator by
    `keys/operators.json`. It wins over the ledger, also after a
    restart, until the ledger has taken it in as an override: the watcher does that by itself, and so does `lab up`.
    """
    lab = open_lab(without_ledger=True)
    lab.patience_s = _PATIENCE_S
    because = "--local was given"
    if not local:
        try:
            _by_the_ledger(output, lab, why, to, name)
            return
        except _DECIDED:
            raise
        except Exception as error:  # whatever is wrong with the ledger, the way back must not depend on it
            if isinstance(error, NoChampion | EvidenceMissing) and not any((lab.home / "serving").glob("*/state.json")):
                raise
            because = error.what if isinstance(error, LabError) else f"the ledger failed: {error!r}"
    _by_a_pin(output, lab, why, to, name, because)


def _by_the_ledger(output: Output, lab: "Lab", why: str, to: int | None, name: str | None) -> None:
    if not lab.has_begun:
        raise EvidenceMissing(
            f"There is no ledger in {lab.home}.", "begin with `lab ingest 2013-01`, or restore lab.db; LAB_HOME names another home."
        )
    lab.ledger.champion()
    who, _ = identity(lab, name, "operator")
    if who.role != "operator":
        raise ApprovalRefused(f"'{who.name}' is {who.role}, not operator, and may not roll back.", "have an operator do it.")
    from mlops_lab.pipelines.promote import roll_back

    at = present(lab)
    took_in(output, lab, at)
    leaving = lab.ledger.champion()
    assert leaving.version is not None
    given = roll_back(leaving.version, at, why, lab, by=who.name, to=to)
    output.say(f"Version {given.version} has the traffic again, as of {shown(at)}; version {leaving.version} is barred: {why}")
    followed(output, lab)
    output.result({"version": given.version, "barred": leaving.version, "assignment": given, "pin": None})


def _by_a_pin(output: Output, lab: "Lab", why: str, to: int | None, name: str | None, because: str) -> None:
    from mlops_lab.pipelines.pins import roll_back_locally

    by = _named(lab, name)
    done = roll_back_locally(lab, by=by, why=why, to=to)
    pin, replicas = done.pin, ", ".join(done.replicas)
    verb = "was pinned already, and now also" if done.completed else "is pinned"
    output.say(f"Version {pin.version} {verb} in place of {pin.leaving} on {replicas}, by {by}: {pin.why}")
    output.say(f"It was done by a local pin, since {because[0].lower()}{because[1:].rstrip('.')}.")
    output.say("A replica follows within two seconds. The watcher brings it into the ledger when it can be reached; so does `lab up`.")
    output.result(
        {"version": pin.version, "barred": pin.leaving, "assignment": None, "pin": pin, "replicas": done.replicas, "because": because}
    )


def _named(lab: "Lab", name: str | None) -> str:
    """Who is at the keyboard, by a token of the home's keys and the list of operators beside them: the ledger may be gone."""
    from mlops_lab.governance.approval import OPERATORS, is_listed_operator, read_token

    given = lab.settings.token.strip()
    owners = {path.stem: read_token(path) for path in sorted(lab.keys.glob("*.token"))}
    who = next((owner for owner, token in owners.items() if token == given), None) if given else name or "operator"
    if who is None or who not in owners or (name is not None and who != name):
        whose = "LAB_TOKEN is no token" if given else f"There is no token of '{who}'"
        raise UsageError(f"{whose} in {lab.keys} that fits.", f"use --as with one of: {', '.join(owners)}; or set LAB_TOKEN.")
    if not is_listed_operator(lab.keys, who):
        raise ApprovalRefused(
            f"'{who}' is not operator by {lab.keys / OPERATORS}, and may not roll back.",
            "have an operator do it; each enrolment brings that list up to date, and so does `lab up`.",
        )
    return who
