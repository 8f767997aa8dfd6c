"""The watcher: `python -m mlops_lab.pipelines.worker`. It does what control messages ask for, one after the other, and ships the logs."""

import logging
import signal
import sys
import threading
import time
from types import FrameType

from mlops_lab.bootstrap import Lab
from mlops_lab.errors import LabError
from mlops_lab.events import CONTROL
from mlops_lab.events.outbox import relay
from mlops_lab.logs import log_to_stderr
from mlops_lab.pipelines.handlers import handle
from mlops_lab.pipelines.ship import ship
from mlops_lab.settings import load_settings

GROUP = "watcher"
READY_FILE = "watcher.ready"
IDLE_S = 0.1
SHIP_EVERY_S = 10.0
RETRY_S = 1.0

log = logging.getLogger(__name__)


class Worker:
    """Reads the control topic as one consumer group. A message is committed when all that follows from it is recorded, so a killed
    worker takes it up again, and whatever was done already has its effect once."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._stop = threading.Event()
        self._shipped_at = 0.0

    def stop(self) -> None:
        """Finish the message in hand, then return from `run`."""
        self._stop.set()

    def run(self) -> None:
        """Work until told to stop."""
        while not self._stop.is_set():
            try:
                if not self.step():
                    self._stop.wait(IDLE_S)
            except LabError as error:
                log.error("watcher.waits", extra={"why": error.what, "next": error.next_step})
                self._stop.wait(RETRY_S)

    def step(self) -> int:
        """Take up to a hundred messages; returns how many there were."""
        lab = self._lab
        relay(lab.outbox, lab.bus)
        deliveries = lab.bus.read(CONTROL, lab.bus.committed(GROUP, CONTROL), limit=100)
        for delivery in deliveries:
            if self._stop.is_set():
                break
            began = time.monotonic()
            handle(delivery.message, lab)
            relay(lab.outbox, lab.bus)
            lab.bus.commit(GROUP, CONTROL, delivery.offset)
            duration_ms = round((time.monotonic() - began) * 1000)
            if duration_ms >= 100:
                log.info("watcher.handled", extra={"type": delivery.message.type, "id": delivery.message.id, "duration_ms": duration_ms})
        if not deliveries and time.monotonic() - self._shipped_at > SHIP_EVERY_S:
            ship(lab)
            self._shipped_at = time.monotonic()
        return len(deliveries)


def settled(lab: Lab) -> bool:
    """True when the watcher has done all that was asked of it and all that followed."""
    return lab.bus.committed(GROUP, CONTROL) >= lab.bus.head(CONTROL) and not lab.outbox.pending(1)


def import_ahead() -> None:
    """Import the frameworks before the first order needs them."""
    from mlops_lab.data import on_delta  # noqa: F401
    from mlops_lab.gates import on_great_expectations  # noqa: F401
    from mlops_lab.monitoring import on_evidently  # noqa: F401
    from mlops_lab.registry import on_mlflow  # noqa: F401
    from mlops_lab.training import on_sklearn  # noqa: F401


def main() -> int:
    """Run one watcher on the home that the settings name, until SIGTERM."""
    log_to_stderr()
    try:
        lab = Lab(load_settings())
        worker = Worker(lab)

        def on_signal(number: int, frame: FrameType | None) -> None:
            worker.stop()

        signal.signal(signal.SIGTERM, on_signal)
        signal.signal(signal.SIGINT, on_signal)
        relay(lab.outbox, lab.bus)
        (lab.home / READY_FILE).write_text("ready\n", encoding="utf-8")
        worker.run()
    except LabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
