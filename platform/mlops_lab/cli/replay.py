"""`lab replay`: let time go by."""

import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING

import click

from mlops_lab.cli.chronicle import Chronicle, Line
from mlops_lab.cli.opened import open_lab, shown
from mlops_lab.cli.output import Output

if TYPE_CHECKING:
    from mlops_lab.bootstrap import Lab
    from mlops_lab.replay.driver import Progress

LOOK_EVERY_S = 0.5


@click.command
@click.option("--weeks", type=click.IntRange(min=1), default=1, show_default=True, help="Weeks of event time to play.")
@click.option(
    "--minute-s", type=click.FloatRange(min=0), default=0.0, metavar="S", help="Seconds per minute of event time; 0 is as fast as it goes."
)
@click.option("--step", is_flag=True, help="Wait for Enter before each week.")
@click.pass_obj
def command(output: Output, weeks: int, minute_s: float, step: bool) -> None:
    """Let time go by: flights ask for their probability one hour before departure, outcomes arrive hours later, as they did in 2013.

    Each week closes on Monday at 12:00Z; event time then stands until the watcher has decided about the week and done what follows.
    Ctrl-C stops between two requests. The next `lab replay` goes on with the week that was not finished, and asks nobody twice. Behind 2013
    the year is played again, so time does not end. Needs the services: `lab up`.
    """
    lab = open_lab()
    with Player(output, lab, minute_s) as player:
        played = []
        for number in range(weeks):
            if step:
                week = player.session.next_week().id
                click.prompt(f"Enter plays {week} ({number + 1} of {weeks})", default="", show_default=False, prompt_suffix=" ", err=True)
            played.append(player.week())
        output.say(f"Event time is {shown(player.session.reached())}. Next: `lab replay` goes on, `lab break` makes it interesting.")
        output.result({"weeks": played, "reached": player.session.reached(), "faults": player.session.faults.active()})


class Player:
    """Plays one week at a time in a running home and tells what happens while it does.

    Raises:
        ServiceNotReady: The services do not run.
        NoChampion: There is nobody to ask.
    """

    def __init__(self, output: Output, lab: "Lab", minute_s: float = 0.0) -> None:
        from mlops_lab.bootstrap.running import require_works
        from mlops_lab.replay.session import Session, needed

        lab.ledger.champion()
        for name in needed(lab):
            require_works(lab.settings, name)
        self._output = output
        self._live = sys.stderr.isatty()
        self._looked_at = 0.0
        self.chronicle = Chronicle(output, lab)
        self.session = Session(lab, self._progress, minute_s, on_wait=self._wait, on_trouble=self._trouble)

    def __enter__(self) -> "Player":
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()
        self.session.journal.close()

    def week(self) -> dict[str, object]:
        """Play the next week to its end; returns what it was like."""
        week, began = self.session.next_week(), time.monotonic()
        on = ", ".join(fault.name for fault in self.session.faults.active())
        known = len(self.chronicle.new)
        progress = self.session.play(1)
        self._clear()
        self._tell()
        took_s = time.monotonic() - began
        self._output.say(
            f"{week.id}: {progress.questions:,} asked, {progress.reports:,} outcomes, {progress.failed} failed, {took_s:.1f} s, "
            f"of which {progress.held_s:.1f} s event time stood still{' | fault: ' + on if on else ''}"
        )
        new: list[Line] = self.chronicle.new[known:]
        return {"week": week.id, "asked": progress.questions, "outcomes": progress.reports, "failed": progress.failed} | {
            "took_s": round(took_s, 2),
            "held_s": round(progress.held_s, 2),
            "happened": new,
        }

    def _progress(self, progress: "Progress") -> None:
        if self._live:
            asked = f"{progress.questions:>6,} asked  {progress.reports:>6,} outcomes  {progress.failed} failed"
            sys.stderr.write(f"\r{_day(progress.at)}  {asked} ")
            sys.stderr.flush()

    def _wait(self) -> None:
        if time.monotonic() - self._looked_at > LOOK_EVERY_S:
            self._tell()
            self._looked_at = time.monotonic()

    def _trouble(self, trouble: str) -> None:
        self._clear()
        waits = "What is published waits in a file meanwhile, in order; the replay goes on by itself. Ctrl-C ends it."
        self._output.say(f"    waiting          {trouble} {waits}" if trouble else "    goes on          It answers again.")

    def _tell(self) -> None:
        self._clear()
        self.chronicle.tell()

    def _clear(self) -> None:
        if self._live:
            sys.stderr.write(f"\r{'':<90}\r")
            sys.stderr.flush()


def _day(at: datetime) -> str:
    return f"{at:%a} {shown(at)}"
