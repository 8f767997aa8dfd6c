"""The demo as it is told in a terminal: acts, sentences, one line that counts, and each decision as it falls."""

import sys
import time
from types import TracebackType
from typing import Self

from mlops_lab.bootstrap import Lab
from mlops_lab.cli.output import Output
from mlops_lab.demo.story import ACTS, Teller
from mlops_lab.replay.driver import Progress

_WIDTH = 118


class Terminal:
    """Tells a person what happens. On a terminal one line is drawn over and over; in a file it is left out."""

    def __init__(self, output: Output, lab: Lab) -> None:
        self._output = output
        self._lab = lab
        self._began = time.monotonic()
        self._live = sys.stderr.isatty()
        self._told = 0
        self._held_s = 0.0
        self._looked_at = 0.0
        self._versions: dict[int | None, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._clear()

    def teller(self) -> Teller:
        return Teller(act=self._act, say=self._say, progress=self._progress, wait=self._wait)

    def _act(self, number: int) -> None:
        self._clear()
        self._output.say("")
        self._output.say(f"[{self._elapsed()}] {number}. {ACTS[number]}")

    def _say(self, sentence: str) -> None:
        self._clear()
        self._output.say(f"[{self._elapsed()}]    {sentence}")

    def _progress(self, progress: Progress) -> None:
        if progress.held_s != self._held_s:  # something was decided
            self._held_s = progress.held_s
            self._news()
        if self._live:
            counts = f"{progress.questions:>7,} asked  {progress.reports:>7,} outcomes  {progress.failed} failed"
            line = f"[{self._elapsed()}]    {progress.at:%a %d %b %H:%M}  {counts}"
            sys.stderr.write(f"\r{line:<{_WIDTH}}")
            sys.stderr.flush()

    def _wait(self) -> None:
        """While event time is held: what a retraining does is told as it happens."""
        if time.monotonic() - self._looked_at > 0.5:
            self._looked_at = time.monotonic()
            self._news()

    def _news(self) -> None:
        self._decisions()
        self._champion()

    def _decisions(self) -> None:
        decisions = self._lab.ledger.decisions()
        for decision in decisions[self._told :]:
            self._say(f"{decision['window']} {decision['outcome']:<15} {_shortened(decision['because'])}")
        self._told = len(decisions)

    def _champion(self) -> None:
        for version in self._lab.ledger.versions():
            state = str(self._lab.ledger.state(version.number))
            if self._versions.get(version.number) != state:
                self._versions[version.number] = state
                self._say(f"         version {version.number} ({version.origin}) is {state}")

    def _clear(self) -> None:
        if self._live:
            sys.stderr.write(f"\r{'':<{_WIDTH}}\r")
            sys.stderr.flush()

    def _elapsed(self) -> str:
        seconds = int(time.monotonic() - self._began)
        return f"{seconds // 60}:{seconds % 60:02d}"


def _shortened(sentence: str, length: int = 96) -> str:
    return sentence if len(sentence) <= length else sentence[: length - 1] + "…"
