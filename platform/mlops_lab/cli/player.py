"""Plays weeks in a running home and tells what happens meanwhile, for `lab replay`, `lab break` and traffic without end."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING

from mlops_lab.cli.chronicle import Chronicle, Line
from mlops_lab.cli.opened import shown
from mlops_lab.cli.output import Output

if TYPE_CHECKING:
    from mlops_lab.bootstrap import Lab
    from mlops_lab.monitoring.window import Window
    from mlops_lab.replay.driver import Progress

LOOK_EVERY_S = 0.5


class Player:
    """Plays one week at a time in a running home and tells what happens while it does. Inside `with` no other replay plays there.

    Args:
        output: Where to tell.
        lab: The home.
        minute_s: Wall seconds per minute of event time; 0 is as fast as it goes.
        start: The week that production begins with; None goes on, or begins with the first.
        gives_way, beat: See `Session`.

    Raises:
        ServiceNotReady: The services do not run.
        NoChampion: There is nobody to ask.
        HomeInUse: Another process replays there.
        UsageError: Production began with another week.
    """

    def __init__(
        self,
        output: Output,
        lab: "Lab",
        minute_s: float = 0.0,
        start: "Window | None" = None,
        gives_way: bool = False,
        beat: Callable[[], object] = lambda: None,
    ) -> None:
        from mlops_lab.bootstrap.running import require_works
        from mlops_lab.replay.session import Session, needed

        lab.ledger.champion()
        for name in needed(lab):
            require_works(lab.settings, name)
        self._output = output
        self._live = sys.stderr.isatty()
        self._looked_at = 0.0
        self.chronicle = Chronicle(output, lab)
        self.session = Session(lab, self._progress, minute_s, on_wait=self._wait, on_trouble=self._trouble, gives_way=gives_way, beat=beat)
        self._start = start
        self._kept = ExitStack()

    def __enter__(self) -> "Player":
        with ExitStack() as kept:
            kept.callback(self.session.journal.close)
            kept.callback(self._clear)
            kept.enter_context(self.session.alone())
            if self._start is not None:
                began = self.session.journal.cursor() is None
                self.session.begin_with(self._start)
                if began:
                    self._output.say(f"Production begins with {self._start.id}: whoever flew before is never asked about.")
            self._kept = kept.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.close()

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
