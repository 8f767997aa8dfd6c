"""A worker: `python -m mlops_lab.pipelines.worker watcher` (or `trainer`). It does what control messages ask for, one after the other."""

import fcntl
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.running import sign_of, workers_of
from mlops_lab.bootstrap.services import WATCHER
from mlops_lab.bootstrap.telemetry import send_logs, send_metrics
from mlops_lab.errors import BusUnreachable, EventRefused, LabError, MessageUnreadable, ServiceError, UnknownName
from mlops_lab.events import CONTROL, Delivery
from mlops_lab.events.dead import bury
from mlops_lab.events.outbox import relay
from mlops_lab.logs import log_to_stderr
from mlops_lab.pipelines.feedback import awaited
from mlops_lab.pipelines.handing_over import HANDING_OVER, has_open_orders
from mlops_lab.pipelines.handlers import DUTIES, Duty, handle, refuse
from mlops_lab.pipelines.signals import on_signals

POLL_S = 0.05
IDLE_EVERY_S = 4.0
GUARD_EVERY_S = 2.0
RETRY_S = 1.0

log = logging.getLogger(__name__)


class Worker:
    """Reads the control topic as one consumer group. A message is committed when all that follows from it is recorded, so a killed
    worker takes it up again, and whatever was done already has its effect once."""

    def __init__(self, lab: Lab, duty: Duty, beat: Callable[[], object] = lambda: None) -> None:
        """`beat` is called behind a message and behind a step, every two seconds at most: whoever watches a worker sees by it that it gets
        something done. One that fails, time after time, at a message or at what it does when idle is silent, as one that hangs is."""
        self._lab = lab
        self._beat, self._beat_at = beat, 0.0
        self._idles = True
        self._duty = duty
        self._stop = threading.Event()
        self._prepared = duty.ahead is None
        self._idle_at = time.monotonic()
        self._guard = None if duty.guard is None else duty.guard(lab)
        self._guarded_at = 0.0

    def stop(self) -> None:
        """Finish the message in hand, then return from `run`."""
        self._stop.set()

    def run(self) -> None:
        """Work until told to stop; what can be done without waiting for anybody is done before the end."""
        while not self._stop.is_set():
            failed = self._attempt(self._turn)
            if failed is None:
                continue
            if issubclass(failed, BusUnreachable):  # messages cannot be read; the logs go on into the tables meanwhile
                self._attempt(self._rest)
            self._stop.wait(RETRY_S)
        if self._duty.idle is not None:
            self._duty.idle(self._lab)

    def _turn(self) -> None:
        found = self.step()
        self._gets_on()
        if not found:
            self._stop.wait(POLL_S)

    @staticmethod
    def _attempt(work: Callable[[], object]) -> type[Exception] | None:
        """Do it. A failure is logged and its kind returned; the error itself would keep alive what it met, such as a client of Kafka."""
        try:
            work()
        except LabError as error:
            log.error("worker.waits", extra={"why": error.what, "next": error.next_step})
            return type(error)
        except Exception as error:  # a fault of ours, or of something strange in the home: the guard must not end with it
            log.exception("worker.stumbled")
            return type(error)
        return None

    def step(self) -> int:
        """Take up to a hundred messages; returns how many there were."""
        lab, duty = self._lab, self._duty
        self._look()
        if not self._prepared and duty.ahead is not None:
            duty.ahead(lab)
            self._prepared = True
        _relay(lab)
        lab.send_waiting()  # whoever spooled it may have ended since
        try:
            deliveries = lab.bus.read(CONTROL, lab.bus.committed(duty.name, CONTROL), limit=100)
        except MessageUnreadable as error:
            self._bury(error, error)
            lab.bus.commit(duty.name, CONTROL, error.offset)
            return 1
        for delivery in deliveries:
            if self._stop.is_set():
                break
            began = time.monotonic()
            self._work_on(delivery)
            _relay(lab)
            lab.bus.commit(duty.name, CONTROL, delivery.offset)
            self._gets_on()
            self._look()
            duration_ms = round((time.monotonic() - began) * 1000)
            if duration_ms >= 100:
                log.info("worker.handled", extra={"type": delivery.message.type, "id": delivery.message.id, "duration_ms": duration_ms})
        if not deliveries:
            self._rest()
        return len(deliveries)

    def _rest(self) -> None:
        """What nobody has to ask for, every few seconds."""
        if self._duty.idle is None or time.monotonic() - self._idle_at <= IDLE_EVERY_S:
            return
        self._idles = False
        try:
            self._duty.idle(self._lab)
            self._idles = True
        finally:
            self._idle_at = time.monotonic()

    def _gets_on(self) -> None:
        if self._idles and time.monotonic() - self._beat_at > GUARD_EVERY_S:
            self._beat()
            self._beat_at = time.monotonic()

    def _work_on(self, delivery: Delivery) -> None:
        try:
            self._lab.event_types.checked(delivery.message, CONTROL, self._lab.clock.now())
        except EventRefused as error:
            self._bury(delivery, error)
            refuse(delivery.message, error, self._lab, self._duty)
        else:
            handle(delivery.message, self._lab, self._duty)

    def _bury(self, found: Delivery | MessageUnreadable, because: LabError) -> None:
        """Another look would find the same, so one is enough. Both workers bury it, which has the effect of once."""
        now = self._lab.clock.now()
        bury(self._lab.bus, CONTROL, found, because, tries=1, first_at=now, at=now)
        log.error("worker.buried", extra={"topic": CONTROL, "offset": found.offset, "why": because.what})

    def _look(self) -> None:
        """Let the guard look, if it is time; what it fails at is not allowed to hold up the messages."""
        if self._guard is None or time.monotonic() - self._guarded_at < GUARD_EVERY_S:
            return
        self._guarded_at = time.monotonic()
        try:
            self._guard()
        except LabError as error:
            log.error("worker.guard_waits", extra={"why": error.what, "next": error.next_step})
        except Exception:  # a fault of ours: the next look may fare better, and the deadline is one of the looks
            log.exception("worker.guard_broken")


def duties(lab: Lab) -> Mapping[str, Duty]:
    """The workers of a home, by name."""
    return DUTIES if lab.settings.orchestration.mode == "workers" else {HANDING_OVER.name: HANDING_OVER}


def settled(lab: Lab) -> bool:
    """True when every worker has done all that was asked of it and all that followed, and every reported outcome is in its table.

    The head is read last: a worker that publishes what follows and then commits, all between two looks, must not look finished. So orders
    that a server carries out are looked at first, too: a run publishes what follows and then ends its order.

    Raises:
        BusUnreachable: It cannot be told. What waits for a broker that is away is no work that somebody does not get done.
    """
    if _trains_elsewhere(lab):
        return False
    waits = lab.outbox.pending(1) or lab.bus.waiting()
    finished = min(lab.bus.committed(name, CONTROL) for name in duties(lab))
    return finished >= lab.bus.head(CONTROL) and not awaited(lab) and not waits and not _trains_elsewhere(lab)


def _trains_elsewhere(lab: Lab) -> bool:
    """A worker commits an order when it is done; what a server carries out is known by the ledger alone."""
    return lab.settings.orchestration.mode == "deployments" and has_open_orders(lab)


def _relay(lab: Lab) -> None:
    """Hand over what waits in the outbox, one worker at a time: two that look at once would both send it, and a broker takes ids twice."""
    if not lab.outbox.pending(1):
        return
    with (lab.home / "outbox.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel lets go of it when its holder dies
        relay(lab.outbox, lab.bus)


def _tell_numbers(lab: Lab, duty: Duty) -> None:
    """One worker tells the numbers of the whole loop, on a page and by OTLP, as the settings ask: it is the watcher, which every home has.

    Raises:
        ServiceError: The port is taken.
        SettingsWrong: See `send_metrics`.
    """
    page, out = lab.settings.metrics, lab.settings.telemetry
    if duty.name != WATCHER or not (page.port or out.otlp):
        return
    from mlops_lab.pipelines.on_prometheus import LoopMetrics, serve

    numbers = LoopMetrics(Lab(lab.settings), workers_of(lab.settings))
    send_metrics(out, duty.name, "", numbers.collect)
    if not page.port:
        return
    try:
        serve(numbers, page.host, page.port)
    except OSError as error:
        raise ServiceError(f"/metrics cannot be served at {page.host}:{page.port}: {error.strerror}.", "set LAB_METRICS__PORT.") from error


def _duty(arguments: list[str], lab: Lab) -> Duty:
    known = duties(lab)
    if len(arguments) != 1 or arguments[0] not in known:
        raise UnknownName.of("worker", " ".join(arguments), known)
    return known[arguments[0]]


def main() -> int:
    """Run the worker named on the command line, on the home that the settings name, until SIGTERM."""
    log_to_stderr()
    try:
        lab = Lab.of_environment()
        duty = _duty(sys.argv[1:], lab)
        lab.process = duty.name
        send_logs(lab.settings.telemetry, duty.name)
        ready = sign_of(lab.home, duty.name)
        worker = Worker(lab, duty, beat=ready.touch)
        on_signals(worker.stop)
        _relay(lab)
        _tell_numbers(lab, duty)
        ready.write_text("ready\n", encoding="utf-8")
        worker.run()
    except LabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
