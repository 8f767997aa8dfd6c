"""The six acts of the demo. It gives orders and plays traffic; whether an act succeeded is said by `evidence.py`, from the stores."""

import importlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from mlops_lab.bootstrap import Lab
from mlops_lab.bootstrap.founding import found
from mlops_lab.bootstrap.fresh_topics import require_fresh_topics
from mlops_lab.bootstrap.identities import APPROVER, OPERATOR, TRAINER
from mlops_lab.bootstrap.running import is_inside, require_not_gone, require_works, workers_of, works
from mlops_lab.bootstrap.services import FEATURES, INFERENCE, PREFECT, WATCHER, service_specs
from mlops_lab.bootstrap.services import TRAINER as TRAINER_PROCESS
from mlops_lab.data.batch_files import write_batch
from mlops_lab.demo.fresh_home import LOCK, locked
from mlops_lab.embedded import Supervisor
from mlops_lab.errors import ApprovalRefused, ServiceNotReady
from mlops_lab.events import CONTROL
from mlops_lab.flights import source
from mlops_lab.flights.faults import fault_called
from mlops_lab.governance.approval import read_token
from mlops_lab.monitoring.window import Window
from mlops_lab.pipelines.backlog import all_shipped
from mlops_lab.pipelines.orders import IngestBatch, PromoteModel, TrainModel, order_id
from mlops_lab.pipelines.promote import promote
from mlops_lab.pipelines.worker import settled
from mlops_lab.replay.driver import Progress
from mlops_lab.replay.session import Session

TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Which weeks the demo plays.

    Attributes:
        history: First and last week that arrive as batches; the last is 2013-W13, behind which production begins.
        poisoned: The week that is delivered in °C first, and repaired then.
        last: Last week that is replayed; the first is the one behind the history.
        drill_before: The bad challenger is trained, refused, and then forced through, before this week; at its end the watch takes it back.
        flipped: Share of training labels that are turned round for it.
        faults: Faults of the world by name, with the week from whose start on they are there.
    """

    history: tuple[Window, Window]
    poisoned: Window
    last: Window
    drill_before: Window
    flipped: float = 0.4
    faults: tuple[tuple[str, Window], ...] = ()

    @property
    def first(self) -> Window:
        """The first week in production."""
        return self.history[1].before(-1)


ACTS = {
    1: "History arrives week by week, and a poisoned batch is refused",
    2: "The first champion is trained, judged, approved by somebody else, promoted",
    3: "The service answers while the year replays, outcomes arrive late",
    4: "Each closed week is watched and ends in one decision",
    5: "Lost skill retrains by itself, and only a better model takes the traffic",
    6: "A bad challenger is refused, and a degraded one that got past is rolled back",
}


YEAR = Plan(
    history=(Window.of_week("2013-W01"), Window.of_week("2013-W13")),
    poisoned=Window.of_week("2013-W06"),
    last=Window.of_week("2013-W52"),
    drill_before=Window.of_week("2013-W41"),
)
"""January to March as history, April to December in production."""


@dataclass(frozen=True)
class Teller:
    """Where the story is told; the terminal's part."""

    act: Callable[[int], None]
    say: Callable[[str], None]
    progress: Callable[[Progress], None]
    wait: Callable[[], None]


@dataclass
class Timings:
    """Wall seconds, for the record: where the time went."""

    parts: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, since: float) -> None:
        self.parts[name] = round(self.parts.get(name, 0.0) + time.monotonic() - since, 2)


class Story:
    """Plays the demo in a home. Every wait has a limit; whatever fails ends the story with an error that says what to do."""

    def __init__(self, lab: Lab, tell: Teller, plan: Plan = YEAR) -> None:
        self._lab = lab
        self._tell = tell
        self._plan = plan
        self._supervisor = Supervisor(lab.home)
        self._elsewhere = is_inside(lab.settings)
        self.timings = Timings()

    def run(self) -> Timings:
        """All six acts; services that it started are stopped at the end, whatever happens. In a stack they run already, and go on."""
        began = time.monotonic()
        with locked(self._lab.home / LOCK):
            try:
                self._start()
                self._ingest()
                self._first_champion()
                self._year()
                if self._elsewhere:  # a watcher that is stopped ships the last answers at its end; this one goes on
                    self._wait(lambda: all_shipped(self._lab), "The watcher did not ship the last answers")
            finally:
                if not self._elsewhere:
                    self._supervisor.down()
        self.timings.add("total", began)
        (self._lab.home / "timings.json").write_text(json.dumps(self.timings.parts, indent=1), encoding="utf-8")
        return self.timings

    def _start(self) -> None:
        found(self._lab)
        require_fresh_topics(self._lab)
        if self._elsewhere:
            for name in (PREFECT, *workers_of(self._lab.settings)):
                require_works(self._lab.settings, name)
            return
        self._specs = {service.name: service for service in service_specs(self._lab.settings)}
        for name in (WATCHER, PREFECT, TRAINER_PROCESS, FEATURES, INFERENCE):
            if name in self._specs:  # features: only where a store has to be filled
                self._supervisor.start(self._specs[name])

    def _ingest(self) -> None:
        began = time.monotonic()
        self._tell.act(1)
        year, poisoned = source.load(self._lab.settings.data), self._plan.poisoned
        celsius = fault_called("unit-change").change(year, poisoned.start)
        weeks = source.weeks(*self._plan.history)
        before = [w for w in weeks if w < poisoned]
        self._deliver([(w, year, "") for w in before] + [(poisoned, celsius, "-poisoned")])
        refused = self._lab.quarantine.get(poisoned.id)
        self._tell.say(f"{poisoned.id} was refused: {refused.report.relative_to(self._lab.home)}")
        self._deliver([(poisoned, year, "-repaired")] + [(w, year, "") for w in weeks if w > poisoned])
        self.timings.add("1 ingest", began)

    def _deliver(self, batches: list[tuple[Window, source.Year, str]]) -> None:
        for window, year, suffix in batches:
            folder = self._lab.home / "inbox" / f"{window.id}{suffix}"
            write_batch(year.batch(window), folder)
            order = IngestBatch(order_id("ingest", f"{window.id}{suffix}"), window.end, OPERATOR, str(folder), window.id)
            self._lab.bus.publish(CONTROL, [order.to_message(window.id)])
        self._settle()

    def _first_champion(self) -> None:
        began, at = time.monotonic(), self._plan.first.start
        self._tell.act(2)
        self._wait_ready(PREFECT)
        self._tell.say(f"Prefect answers after {time.monotonic() - began:.0f} s of waiting")
        order = TrainModel(order_id("train-first", at), at, TRAINER, origin="first")
        self._lab.bus.publish(CONTROL, [order.to_message(self._lab.model)])
        # While the trainer works this process has nothing to do: it imports what the examination at the end will need.
        threading.Thread(target=importlib.import_module, args=("mlops_lab.registry.on_mlflow",), daemon=True).start()
        self._settle()
        version = self._lab.ledger.versions()[-1]
        try:
            self._lab.approvals.approve(version.number, self._token(TRAINER), "my own work", at)
        except ApprovalRefused as error:
            self._tell.say(f"Own request, own approval: {error.what}")
        self._lab.approvals.approve(version.number, self._token(APPROVER), "checked the judgement and the slices", at)
        promotion = PromoteModel(order_id("promote", version.number), at, OPERATOR, version.number)
        self._lab.bus.publish(CONTROL, [promotion.to_message(self._lab.model)])
        self._settle()
        self._wait_ready(INFERENCE)
        self.timings.add("2 first champion", began)

    def _year(self) -> None:
        began = time.monotonic()
        for act in (3, 4, 5):  # from here on they go on side by side
            self._tell.act(act)
        plan, session = self._plan, Session(self._lab, self._tell.progress, on_wait=self._tell.wait, on_trouble=self._trouble)
        for name, week in plan.faults:
            session.faults.start(name, week.start)
        session.play((plan.drill_before.start - plan.first.start) // timedelta(weeks=1))
        self._drill()
        progress = session.play((plan.last.start - plan.drill_before.start) // timedelta(weeks=1) + 1)
        session.journal.close()
        self.timings.add("3-6 replay, watch, retrain", began)
        self.timings.parts["of it, event time held"] = round(progress.held_s, 2)

    def _trouble(self, trouble: str) -> None:
        self._tell.say(trouble or "It answers again.")

    def _drill(self) -> None:
        """A challenger from flipped labels: the judge refuses it; then an operator forces it through, on the record."""
        began = time.monotonic()
        self._tell.act(6)
        at = self._plan.drill_before.before().closes_at
        order = TrainModel(order_id("train-drill", self._plan.drill_before.id), at, TRAINER, origin="drill", flip_share=self._plan.flipped)
        self._lab.bus.publish(CONTROL, [order.to_message(self._lab.model)])
        self._settle()
        bad = next(version for version in self._lab.ledger.versions() if version.origin == "drill")
        self._tell.say(f"Version {bad.number} (labels flipped) is {self._lab.ledger.state(bad.number)}")
        promote(bad.number, at, OPERATOR, self._lab, why="drill: forced past the judge to see it rolled back", kind="override")
        self._tell.say(f"Version {bad.number} forced by override; the watch has to find it")
        self.timings.add("6 drill: train and force", began)

    def _settle(self) -> None:
        """Wait until the workers have done everything; one that died ends the wait at once."""
        self._wait(lambda: settled(self._lab), "The workers did not finish")

    def _wait(self, done: Callable[[], bool], trouble: str) -> None:
        began = time.monotonic()
        while not done():
            for name in workers_of(self._lab.settings):
                require_not_gone(self._lab.settings, name)
            if time.monotonic() - began > TIMEOUT_S:
                logs = self._lab.home / "logs"
                raise ServiceNotReady(f"{trouble} within {TIMEOUT_S:.0f} s.", f"read {logs}, then run the demo again.")
            time.sleep(0.1)

    def _wait_ready(self, name: str) -> None:
        if not self._elsewhere:
            self._supervisor.wait_ready(self._specs[name])
            return
        began = time.monotonic()
        while not works(self._lab.settings, name):
            if time.monotonic() - began > TIMEOUT_S:
                require_works(self._lab.settings, name)
            time.sleep(0.2)

    def _token(self, name: str) -> str:
        return read_token(self._lab.keys / f"{name}.token")
