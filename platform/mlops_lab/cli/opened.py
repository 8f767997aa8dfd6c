"""The home that a command works in: its ports, the event time it has come to, and whether its services run."""

import os
from datetime import datetime
from typing import TYPE_CHECKING

import click

from mlops_lab.errors import EvidenceMissing, UsageError

if TYPE_CHECKING:  # imported inside the functions: `lab COMMAND --help` needs none of it
    from mlops_lab.bootstrap import Lab
    from mlops_lab.governance.approval import Identity


class Moment(click.ParamType[datetime]):
    """Event time on the command line: 2013-07-01, or 2013-07-01 12:00Z. Without a zone it is UTC."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        from datetime import UTC

        if isinstance(value, datetime):
            return value
        try:
            at = datetime.fromisoformat(str(value).strip())
        except ValueError:
            self.fail(f"'{value}' is no moment; write it like 2013-07-01 or '2013-07-01 12:00Z'", param, ctx)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)


MOMENT = Moment()


def shown(at: datetime) -> str:
    """Event time as it is printed: 2013-07-01 12:00Z."""
    return f"{at:%Y-%m-%d %H:%M}Z"


def open_lab(*, found_home: bool = False, without_ledger: bool = False) -> "Lab":
    """The ports of the home that the settings name.

    Args:
        found_home: Make the home where there is none; commands that only read say what to do instead.
        without_ledger: Go on also where the ledger's database is gone.

    Raises:
        EvidenceMissing: There is nothing in the home yet.
        SettingsWrong: A setting is misspelt or out of range.
    """
    from mlops_lab.bootstrap import Lab
    from mlops_lab.bootstrap.founding import found
    from mlops_lab.bootstrap.services import QUIET
    from mlops_lab.settings import load_settings

    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    lab = Lab(load_settings())
    if found_home:
        found(lab)
    elif not without_ledger and not lab.has_begun:
        raise EvidenceMissing(
            f"Nothing has happened in {lab.home} yet.",
            "run `lab demo` for the whole loop, or begin it with `lab ingest 2013-01`; LAB_HOME names another home.",
        )
    return lab


def runs(lab: "Lab", name: str) -> bool:
    """Whether a service of the home lives."""
    from mlops_lab.bootstrap.running import works

    return works(lab.settings, name)


def take_in_logs(lab: "Lab") -> None:
    """Bring the replicas' prediction logs and what was reported on the bus into the tables, as the watcher does while it runs."""
    from mlops_lab.bootstrap.services import WATCHER
    from mlops_lab.pipelines.feedback import take_in_feedback
    from mlops_lab.pipelines.ship import ship

    if not runs(lab, WATCHER):
        ship(lab)
        take_in_feedback(lab)


def reached(lab: "Lab") -> datetime | None:
    """The event time that production has come to: the newest closing of a week that was played or decided; None before the first."""
    from mlops_lab.clock import from_iso
    from mlops_lab.replay.journal import Journal
    from mlops_lab.replay.session import JOURNAL

    moments = [from_iso(decision["at"]) for decision in lab.ledger.decisions()]
    if (lab.home / JOURNAL).is_file():
        journal = Journal(lab.home / JOURNAL)
        cursor = journal.cursor()
        journal.close()
        moments += [cursor] if cursor else []
    return max(moments, default=None)


def present(lab: "Lab") -> datetime:
    """The event time at which a command acts: where production has come to, else the end of the accepted history.

    Raises:
        NotEnoughData: No batch was accepted and nothing was served.
    """
    from mlops_lab.errors import NotEnoughData

    at = reached(lab)
    if at is not None:
        return at
    ends = [snapshot.end for snapshot in lab.snapshots.all()]
    if not ends:
        raise NotEnoughData("No batch was accepted yet.", "run `lab ingest 2013-01`, then the months after it.")
    return max(ends)


def identity(lab: "Lab", name: str | None, otherwise: str) -> "tuple[Identity, str]":
    """Who is at the keyboard, proven by a token: that of LAB_TOKEN, or the file of the name given in the home's keys.

    Args:
        lab: The home.
        name: As given with --as.
        otherwise: Whose token is taken where neither is given.

    Raises:
        UsageError: There is no such token, or LAB_TOKEN is not that of the name.
        ApprovalRefused: The token is nobody's.
    """
    from mlops_lab.governance.approval import read_token

    token = lab.settings.token
    if not token:
        path = lab.keys / f"{name or otherwise}.token"
        if not path.is_file():
            known = ", ".join(sorted(path.stem for path in lab.keys.glob("*.token")))
            raise UsageError(
                f"There is no token of '{name or otherwise}' in {lab.keys}.", f"use --as with one of: {known}; or set LAB_TOKEN."
            )
        token = read_token(path)
    who = lab.approvals.authenticate(token)
    if name is not None and who.name != name:
        raise UsageError(f"LAB_TOKEN is the token of '{who.name}', not of '{name}'.", f"leave out `--as {name}`, or unset LAB_TOKEN.")
    return who, token
