"""`lab replay`: let time go by."""

from typing import TYPE_CHECKING

import click

from mlops_lab.cli.opened import open_lab, shown
from mlops_lab.cli.output import Output
from mlops_lab.cli.pace import Speed, Start
from mlops_lab.cli.player import Player
from mlops_lab.cli.traffic import play_forever
from mlops_lab.errors import UsageError

if TYPE_CHECKING:
    from mlops_lab.monitoring.window import Window


@click.command
@click.option("--weeks", type=click.IntRange(min=1), help="Weeks of event time to play; without it one.")
@click.option("--speed", type=Speed(), metavar="2000x", help="Event time by wall time; without it as fast as it goes.")
@click.option(
    "--minute-s", type=click.FloatRange(min=0), metavar="S", help="The same the other way round: seconds per minute of event time."
)
@click.option("--from", "start", type=Start(), metavar="june", help="Begin production with that month, week (2013-W23) or day.")
@click.option("--forever", is_flag=True, help="Go on week after week; wait for what is away, stand aside for another replay.")
@click.option("--step", is_flag=True, help="Wait for Enter before each week.")
@click.pass_obj
def command(
    output: Output, weeks: int | None, speed: float | None, minute_s: float | None, start: "Window | None", forever: bool, step: bool
) -> None:
    """Let time go by: flights ask for their probability one hour before departure, outcomes arrive hours later, as they did in 2013.

    Each week closes on Monday at 12:00Z; event time then stands until the watcher has decided about the week and done what follows.
    Ctrl-C stops between two requests. The next `lab replay` goes on with the week that was not finished, and asks nobody twice. Behind 2013
    the year is played again, so time does not end. Needs the services: `lab up`.

    --speed 2000x lets a week take five minutes. --from is for a home where nothing was played yet: the weeks before are never asked about,
    so the model that serves is that much older than its data. --forever is traffic: while a person replays in the same home, it waits.
    """
    if speed is not None and minute_s is not None:
        raise UsageError("--speed and --minute-s say the same.", "give one of them; 2000x is 0.03 seconds per minute.")
    if forever and step:
        raise UsageError("--forever does not wait for Enter.", "leave out --step, or --forever.")
    if forever and (weeks is not None or output.as_json):
        raise UsageError("--forever has no last week and no result.", "leave out --weeks and --json, or --forever.")
    weeks = weeks or 1
    pace = 60 / speed if speed is not None else minute_s or 0.0
    if forever:
        play_forever(output, pace, start)
        return
    lab = open_lab()
    with Player(output, lab, pace, start) as player:
        played = []
        for number in range(weeks):
            if step:
                week = player.session.next_week().id
                click.prompt(f"Enter plays {week} ({number + 1} of {weeks})", default="", show_default=False, prompt_suffix=" ", err=True)
            played.append(player.week())
        output.say(f"Event time is {shown(player.session.reached())}. Next: `lab replay` goes on, `lab break` makes it interesting.")
        output.result({"weeks": played, "reached": player.session.reached(), "faults": player.session.faults.active()})
