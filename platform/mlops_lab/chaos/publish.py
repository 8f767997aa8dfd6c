"""The publisher whose history is the evidence: `python -m mlops_lab.chaos.publish PLAN.json` in the home that the settings name.

It sends what lies in a file, line after line and at a pace, by the bus that every publisher of the platform uses, and writes down how far
that was accepted. Killed and started again it goes on behind what it wrote down, so a batch may be sent twice and none is left out.
"""

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import orjson

from mlops_lab.bootstrap import Lab
from mlops_lab.chaos.process import Process
from mlops_lab.errors import BusUnreachable
from mlops_lab.events import EventBus, Message
from mlops_lab.events.spool import SpooledBus
from mlops_lab.logs import log_to_stderr

BATCH_S = 0.1
_LONGEST_S = 1800.0
_AGAIN_S = 0.2
_LOOK_S = 0.02
_DRAINS_S = 90.0
_HOLDS_S = 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a publisher does.

    Attributes:
        sendings: File with an event and its topic in each line.
        history: File that gets a line for each batch that was accepted.
        per_second: Its pace; it ends when all is sent, when it is told to, or after half an hour.
    """

    sendings: str
    history: str
    per_second: float


@dataclass(frozen=True, slots=True)
class Accepted:
    """One batch.

    Attributes:
        until: Number of its last sending.
        began_ns: Monotonic clock of the machine, before the first try.
        done_ns: The same, when `publish` had returned.
        refused: How often `publish` raised before.
    """

    until: int
    began_ns: int
    done_ns: int
    refused: int = 0

    @property
    def seconds(self) -> float:
        return (self.done_ns - self.began_ns) / 1e9


class Publisher(Process):
    """The process, seen from the one who checks."""

    def __init__(self, plan: Plan, settings: dict[str, str], stderr: Path) -> None:
        at = Path(plan.history).with_suffix(".plan.json")
        at.write_text(json.dumps(asdict(plan)))
        super().__init__([sys.executable, "-m", "mlops_lab.chaos.publish", str(at)], settings, stderr)
        self._history = Path(plan.history)

    def accepted(self) -> list[Accepted]:
        """The batches so far, in order."""
        return read_accepted(self._history)

    def hold(self) -> None:
        """Let it finish its batch, then wait until it is told to go on. Raises ServiceNotReady."""
        _held(self._history).unlink(missing_ok=True)
        _hold(self._history).touch()
        self.await_("The publisher did not hold", _held(self._history).exists, _HOLDS_S)

    def go_on(self) -> None:
        """Send again."""
        _hold(self._history).unlink(missing_ok=True)

    def await_accepted(self, number: int, within_s: float = 30.0) -> None:
        """Wait until so many sendings are accepted. Raises ServiceNotReady."""
        self.await_(f"Sending {number} was not accepted", lambda: until(self.accepted()) >= number, within_s)


def read_accepted(path: Path) -> list[Accepted]:
    """All whole lines of a history."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    return [Accepted(**orjson.loads(line)) for line in lines]


def until(accepted: Sequence[Accepted]) -> int:
    """Number of the last sending that was accepted; 0 before the first."""
    return accepted[-1].until if accepted else 0


def main() -> int:
    """Send until all is sent, or until SIGTERM; then wait for what is spooled."""
    log_to_stderr()
    plan = Plan(**json.loads(Path(sys.argv[1]).read_text()))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    lab = Lab.of_environment()
    _work(plan, lab.bus, stop)
    return 0 if _drained(lab.bus) else 1


def _work(plan: Plan, bus: EventBus, stop: threading.Event) -> None:
    history = Path(plan.history)
    done = until(read_accepted(history))
    if history.is_file():  # killed in the middle of a line: what follows is not to stand behind its beginning
        os.truncate(history, history.read_bytes().rfind(b"\n") + 1)
    size = max(1, round(plan.per_second * BATCH_S))
    ends = time.monotonic() + _LONGEST_S
    with Path(plan.sendings).open("rb") as sendings, history.open("ab") as written:
        lines = islice(sendings, done, None)
        due = time.monotonic()
        while not _waits(history, stop) and time.monotonic() < ends and (batch := _batch(lines, size)):
            began, refused = time.monotonic_ns(), 0
            for topic in dict.fromkeys(topic for topic, _ in batch):
                refused += _publish(bus, topic, [message for mine, message in batch if mine == topic])
            done += len(batch)
            written.write(orjson.dumps(Accepted(done, began, time.monotonic_ns(), refused)) + b"\n")
            written.flush()
            due = max(due + len(batch) / plan.per_second, time.monotonic() - 5 * BATCH_S)  # it catches up, but not a whole outage at once
            stop.wait(max(0.0, due - time.monotonic()))


def _waits(history: Path, stop: threading.Event) -> bool:
    """Wait while it is told to. Returns whether to stop."""
    while _hold(history).exists() and not stop.is_set():
        _held(history).touch()
        stop.wait(_LOOK_S)
    return stop.is_set()


def _hold(history: Path) -> Path:
    return history.with_suffix(".hold")


def _held(history: Path) -> Path:
    return history.with_suffix(".held")


def _batch(lines: Iterator[bytes], size: int) -> list[tuple[str, Message]]:
    found = [orjson.loads(line) for line in islice(lines, size)]
    return [(each["topic"], Message.from_cloudevent(each["event"])) for each in found]


def _publish(bus: EventBus, topic: str, messages: list[Message]) -> int:
    """Until it is accepted. Returns how often it was not."""
    refused = 0
    while True:
        try:
            bus.publish(topic, messages)
            return refused
        except BusUnreachable as error:
            log.error("chaos.refused", extra={"why": error.what})
            refused += 1
            time.sleep(_AGAIN_S)


def _drained(bus: EventBus) -> bool:
    """Whether nothing waits for the broker any more."""
    if not isinstance(bus, SpooledBus):
        return True
    bus.start()
    ends = time.monotonic() + _DRAINS_S
    while bus.waiting() and time.monotonic() < ends:
        time.sleep(0.05)
    return not bus.waiting()


if __name__ == "__main__":
    sys.exit(main())
