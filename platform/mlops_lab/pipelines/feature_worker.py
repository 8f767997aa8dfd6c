"""The stream processor as a process: `python -m mlops_lab.pipelines.feature_worker`. It keeps the online table up to date until SIGTERM."""

import logging
import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.parts import features_part
from mlops_lab.bootstrap.telemetry import send_logs
from mlops_lab.clock import Clock
from mlops_lab.errors import LabError
from mlops_lab.features.processor import Processor
from mlops_lab.features.stream import CHUNK
from mlops_lab.logs import log_to_stderr
from mlops_lab.pipelines.feature_status import FeatureStatus, status_file, write_status
from mlops_lab.pipelines.signals import on_signals

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.2
"""Changes of rows are gathered for as long as the last step took: a write to Feast costs tens of milliseconds, whether of one row or of
hundreds, one to Redis hardly any. While nothing comes the pause grows to its longest."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 5.0
_TELL_EVERY_S = 1.0
_COUNT_ROWS_EVERY_S = 10.0

log = logging.getLogger(__name__)


class FeatureWorker:
    """Runs a processor. What does not answer is waited for, for ever: nothing is read past it, and the log says it once."""

    def __init__(self, processor: Processor, home: Path, clock: Clock) -> None:
        self._processor = processor
        self._file = status_file(home, processor.group)
        self._clock = clock
        self._stop = threading.Event()
        self._started_at_s = clock.now().timestamp()
        self._trouble: dict[str, object] | None = None
        self._waited_s = FIRST_WAIT_S
        self._told_at = self._counted_at = 0.0
        self._rows: dict[str, int] = {}
        self._lag: dict[str, list[int]] = {}
        self._silent = False

    def stop(self) -> None:
        """Finish the step in hand, then return from `run`."""
        self._stop.set()

    def run(self) -> None:
        """Work until told to stop."""
        self._tell("starting")
        pause_s = SHORTEST_PAUSE_S
        while not self._stop.is_set():
            try:
                began = time.monotonic()
                passed = self._processor.step()
                self._goes_on()
                if time.monotonic() - self._told_at >= _TELL_EVERY_S:
                    self._lag = self._processor.lag()
                    self._tell("working")
                if passed < CHUNK:
                    pause_s = min(LONGEST_PAUSE_S, max(SHORTEST_PAUSE_S, time.monotonic() - began if passed else 1.2 * pause_s))
                    self._stop.wait(pause_s)
            except LabError as error:
                self._waits(error.what, error.next_step, None)
            except Exception as error:  # a fault of ours, or of something strange on the way: repairing it must not need a restart
                self._waits(f"The processor stumbled: {error!r}.", "see its log.", error)
        self._tell("stopped")

    def _goes_on(self) -> None:
        if self._trouble is not None:
            log.info("features.goes_on", extra={"after": self._trouble["why"]})
            self._trouble, self._waited_s, self._told_at = None, FIRST_WAIT_S, 0.0

    def _waits(self, why: str, next_step: str, fault: Exception | None) -> None:
        if self._trouble is None or self._trouble["why"] != why:
            log.error("features.waits", exc_info=fault, extra={"why": why, "next": next_step})
            since = self._trouble["since_s"] if self._trouble else self._clock.now().timestamp()
            self._trouble = {"why": why, "next": next_step, "since_s": since}
        self._tell("waiting")
        self._stop.wait(self._waited_s)
        self._waited_s = min(LONGEST_WAIT_S, 2 * self._waited_s)

    def _tell(self, state: str) -> None:
        processor, wrote = self._processor, self._processor.wrote
        self._told_at = now = time.monotonic()
        if state == "stopped" or not self._counted_at or now - self._counted_at >= _COUNT_ROWS_EVERY_S:
            self._rows, self._counted_at = dict(processor.by_view()), now if processor.wrote else 0.0
        status = FeatureStatus(
            pid=os.getpid(),
            at_s=self._clock.now().timestamp(),
            started_at_s=self._started_at_s,
            state=state,
            trouble=self._trouble,
            watermark_s=wrote.watermark_s if wrote else 0,
            offsets=dict(wrote.offsets) if wrote else {},
            lag=self._lag,
            counts=asdict(processor.counts),
            rows=self._rows,
            written_at_s=wrote.written_at_s if wrote else 0.0,
            epoch=processor.epoch,
            rewritten=processor.rewritten,
            rewritten_rows=processor.rewritten_rows,
            rewritten_ms=processor.rewritten_ms,
        )
        try:
            write_status(self._file, status)
            self._silent = False
        except OSError as error:  # rows are worth more than the words about them
            if not self._silent:
                log.error("features.status_unwritten", extra={"file": str(self._file), "why": str(error)})
            self._silent = True


def main() -> int:
    """Run on the home that the settings name, until SIGTERM."""
    from mlops_lab.bootstrap.feature_processor import feature_processor  # late: Feast takes seconds, and a wrong setting is told before

    log_to_stderr()
    try:
        lab = Lab.of_environment()
        send_logs(lab.settings.telemetry, "features")
        lab.home.mkdir(parents=True, exist_ok=True)
        store = features_part(lab.settings)
        if store.trouble:  # told, and waited for: whoever runs the store may put it right without a restart of this
            log.warning("features.store_in_doubt", extra={"why": store.trouble, "next": store.next})
        worker = FeatureWorker(feature_processor(lab), lab.home, lab.clock)
        on_signals(worker.stop)
        (lab.home / "features.ready").write_text("ready\n", encoding="utf-8")
        worker.run()
    except LabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
