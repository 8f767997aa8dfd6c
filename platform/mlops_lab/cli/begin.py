"""`lab begin`: from an empty home to a model that serves, in one go and once."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from mlops_lab.cli.ingest import take
from mlops_lab.cli.opened import identity, open_lab, shown
from mlops_lab.cli.output import Output
from mlops_lab.cli.promote import followed
from mlops_lab.cli.train import carried_out, order_of
from mlops_lab.errors import HomeInUse, PromotionRefused

if TYPE_CHECKING:
    from datetime import datetime

    from mlops_lab.bootstrap import Lab
    from mlops_lab.registry.version import Assignment

MONTHS = ("2013-01", "2013-02", "2013-03")
ORIGIN = "first"


@click.command
@click.pass_obj
def command(output: Output) -> None:
    """Take in January to March, train and judge the first model, approve it as somebody else, and let it take the traffic.

    For a home where nothing serves yet; where something does, nothing changes. Each step is done once: killed in the middle and called
    again, it goes on behind what was done. Step by step the same is `lab ingest`, `lab train`, `lab promote`.
    """
    from mlops_lab.registry.version import Role

    lab = open_lab(found_home=True)
    with _alone(lab):
        champion = lab.ledger.current(Role.CHAMPION)
        new = champion is None
        if champion is None:
            champion = _begin(output, lab)
            followed(output, lab)
        else:
            output.say(f"Version {champion.version} serves since {shown(champion.at)}; nothing changed.")
    output.say("Next: `lab replay` lets a week go by, `lab break concept-shift` closes a runway.")
    output.result({"version": champion.version, "new": new, "assignment": champion})


def _begin(output: Output, lab: "Lab") -> "Assignment":
    from mlops_lab.pipelines.promote import promote

    at = _history(output, lab)
    number, _ = carried_out(output, order_of(lab, at, ORIGIN), lab)
    judgement = lab.ledger.judgement(number) or {}
    if judgement.get("outcome") != "promote":
        raise PromotionRefused.because(
            lab.model,
            number,
            f"the judge said '{judgement.get('outcome')}'",
            f"`lab judge {number}` shows each check; `lab train` trains another.",
        )
    output.say(f"Judged 'promote': {judgement['because']}.")
    who, token = identity(lab, None, "approver")
    if str(lab.ledger.state(number)) != "approved":
        lab.approvals.approve(number, token, "read the judgement of the first model and agreed", at)
    given = promote(number, at, who.name, lab)
    output.say(f"Version {number} takes the traffic as the first champion, as of {shown(at)}, approved by {who.name}.")
    return given


def _history(output: Output, lab: "Lab") -> "datetime":
    """Take in what came before production, week by week; returns the event time behind it. Raises SnapshotRefused."""
    from mlops_lab.flights import source

    began = time.monotonic()
    weeks = [week for month in MONTHS for week in source.weeks_of_month(month)]
    for number, week in enumerate(weeks, start=1):
        report = take(lab, week)
        output.say(f"[{number}/{len(weeks)}] {week.id} {'accepted' if report['new'] else 'was accepted before'}")
    output.say(f"History is in, {time.monotonic() - began:.0f} s.")
    return weeks[-1].end


@contextmanager
def _alone(lab: "Lab") -> Iterator[None]:
    """One beginning at a time. The kernel lets go of the lock when its holder dies."""
    with (lab.home / "begin.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HomeInUse(f"Another process begins {lab.home}.", "wait for it; then this command finds a champion.") from error
        yield
