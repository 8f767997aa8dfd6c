"""`lab replay --forever`: traffic that goes on whatever happens beside it, for a container of its own."""

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from mlops_lab.cli.opened import open_lab
from mlops_lab.cli.output import Output
from mlops_lab.cli.player import Player
from mlops_lab.errors import EvidenceMissing, HomeInUse, NoChampion, ServiceError, UsageError

if TYPE_CHECKING:
    from mlops_lab.monitoring.window import Window

RETRY_S = 2.0
READY = "traffic.ready"
REMEMBERED = timedelta(weeks=26)
"""How long attempts stay in the journal: nobody ends such a replay, and its file is not to grow for ever."""

_PASSES = (EvidenceMissing, HomeInUse, NoChampion, ServiceError)
"""What somebody else, or Docker, repairs: no model yet, a service that restarts, a broker or a database that is away, a person's turn."""


def play_forever(output: Output, minute_s: float, start: "Window | None" = None) -> None:
    """Play week after week until Ctrl-C or SIGTERM. What is waited for is said once. That it goes on, playing or waiting, is seen by the
    age of `traffic.ready` in the home.

    Where production began with another week than `start`, it goes on from there and says so: a container that is made anew with another
    wish would only fail and be started again.
    """
    from mlops_lab.settings import load_settings

    ready = load_settings().home / READY
    said = ""
    while True:
        try:
            lab = open_lab()
            ready.touch()
            with Player(output, lab, minute_s, start, gives_way=True, beat=ready.touch) as player:
                if said:
                    output.say(f"    goes on          in {player.session.next_week().id}")
                while True:
                    player.week()
                    player.session.journal.forget(player.session.reached() - REMEMBERED)
                    said = ""
        except _PASSES as error:
            about = "another replay" if isinstance(error, HomeInUse) else error.what  # that one says it in several ways
            if about != said:
                said = about
                output.say(f"    waiting          {error.what} Traffic goes on by itself. Next: {error.next_step}")
            time.sleep(RETRY_S)
        except UsageError as error:
            if start is None:
                raise
            output.say(f"{error.what} Traffic goes on from there.")
            start = None
