"""The bundle of ports that pipelines and commands work with. Each is made at its first use, by importing just the adapter it needs."""

from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_lab.bootstrap.identities import PLATFORM
from mlops_lab.clock import Clock, WallClock
from mlops_lab.settings import Settings, load_settings
from mlops_lab.usecase import UseCase

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from mlops_lab.audit import AuditTrail
    from mlops_lab.data.port import Tables
    from mlops_lab.data.quarantine import Quarantine
    from mlops_lab.data.reported import Intake
    from mlops_lab.data.shipping import Shipper
    from mlops_lab.data.snapshots import Snapshots
    from mlops_lab.events import EventBus
    from mlops_lab.events.outbox import Outbox
    from mlops_lab.events.schema import EventTypes
    from mlops_lab.gates.port import Gate
    from mlops_lab.governance.approval import Approvals
    from mlops_lab.monitoring.canary import CanaryLimits
    from mlops_lab.monitoring.port import DriftReport
    from mlops_lab.registry.catalog import Catalog
    from mlops_lab.registry.judge import JudgeLimits
    from mlops_lab.registry.port import Ledger
    from mlops_lab.retraining.policy import Policy
    from mlops_lab.scoring.store import PackageStore
    from mlops_lab.telemetry import Spans
    from mlops_lab.telemetry.book import TraceBook
    from mlops_lab.training.port import Trainer


class Lab:
    """Everything by name; a place on disk for what is embedded.

    Args:
        settings: Where and how.
        clock: Wall time.
    """

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or WallClock()
        self.patience_s = 10.0
        """How long the ledger is waited for while somebody else writes; set before its first use."""
        self.process = "lab"
        """What this process is called in traces; set before the first one."""

    @classmethod
    def of_environment(cls) -> "Lab":
        """The lab that the environment variables describe, for processes that take no other arguments. Raises SettingsWrong."""
        return cls(load_settings())

    @property
    def home(self) -> Path:
        return self.settings.home

    @property
    def seed(self) -> int:
        return self.settings.seed

    @cached_property
    def use_case(self) -> UseCase:
        from mlops_lab.flights.usecase import Flights

        return Flights(self.settings.data)

    @cached_property
    def event_types(self) -> "EventTypes":
        from mlops_lab.bootstrap.events import event_types

        return event_types(self.use_case)

    @property
    def model(self) -> str:
        from mlops_lab.flights.request import MODEL

        return MODEL

    @cached_property
    def bus(self) -> "EventBus":
        from mlops_lab.bootstrap.chosen import chosen

        if chosen(self.settings).bus == "kafka":
            from mlops_lab.bootstrap.broker import broker_of
            from mlops_lab.events.on_kafka import KafkaBus
            from mlops_lab.events.spool import SpooledBus

            kafka = KafkaBus(broker_of(self.settings.events))
            return SpooledBus(kafka, self.home / "spool.db", kafka.check)
        from mlops_lab.events.on_sqlite import SqliteBus

        return SqliteBus(self.settings.bus_file)

    @cached_property
    def spans(self) -> "Spans":
        from mlops_lab.bootstrap.telemetry import spans_of

        return spans_of(self.settings.telemetry, self.process)

    @cached_property
    def trace_book(self) -> "TraceBook":
        from mlops_lab.telemetry.book import TraceBook

        return TraceBook(self.home / "traces.db")

    def send_waiting(self) -> None:
        """Have what waits for the broker sent in the background, whichever process left it. Cheap when nothing waits.

        Raises:
            BusUnreachable: The spool cannot be read.
        """
        from mlops_lab.events.spool import SpooledBus

        if isinstance(self.bus, SpooledBus):
            self.bus.start()

    @property
    def has_begun(self) -> bool:
        """Whether there is something to read: the ledger's file, or the keys of a home whose ledger is on a server."""
        return (self.keys if self.settings.stores.database else self.home / "lab.db").exists()

    @cached_property
    def _engine(self) -> "Engine":
        from mlops_lab.audit.on_sql import open_engine

        self.home.mkdir(parents=True, exist_ok=True)
        said = self.settings.stores
        address = said.database or f"sqlite:///{(self.home / 'lab.db').resolve()}"
        return open_engine(address, self.patience_s, password_file=said.database_password_file)

    @cached_property
    def outbox(self) -> "Outbox":
        from mlops_lab.events.on_sql import SqlOutbox

        return SqlOutbox(self._engine)

    @cached_property
    def trail(self) -> "AuditTrail":
        from mlops_lab.audit.checkpoint import HeadsFile
        from mlops_lab.audit.on_sql import SqlAudit
        from mlops_lab.scoring.keys import KeyRing, signing_key

        key, writers = signing_key(self.keys), KeyRing(self.keys, also_retired=True)
        return SqlAudit(self._engine, HeadsFile(self.home / "audit-heads.jsonl"), key, self.clock, writers)

    @cached_property
    def ledger(self) -> "Ledger":
        from mlops_lab.audit.on_sql import SqlAudit
        from mlops_lab.registry.on_sql import SqlLedger

        assert isinstance(self.trail, SqlAudit)
        return SqlLedger(self.trail, self.model)

    @cached_property
    def approvals(self) -> "Approvals":
        from mlops_lab.governance.approval import Approvals

        return Approvals(self.ledger, self.keys)

    @property
    def keys(self) -> Path:
        return self.home / "keys"

    @cached_property
    def tables(self) -> "Tables":
        from mlops_lab.data.on_delta import DeltaTables

        if not self.settings.stores.tables:
            return DeltaTables(self.home / "tables")
        from mlops_lab.bootstrap.packages import place
        from mlops_lab.objects.on_s3 import require_conditional_put

        where = place(self.settings.stores.tables, self.settings)
        require_conditional_put(where)
        return DeltaTables(where.url, where.options())

    @cached_property
    def snapshots(self) -> "Snapshots":
        from mlops_lab.data.snapshots import Snapshots
        from mlops_lab.registry.book import LedgerBook

        return Snapshots(self.tables, LedgerBook(self.ledger, PLATFORM), self.use_case.tables)

    @cached_property
    def shipper(self) -> "Shipper":
        from mlops_lab.data.shipping import Shipper

        return Shipper(self.tables, self.use_case.features, self.use_case.outcome_columns)

    @cached_property
    def reported(self) -> "Intake":
        from mlops_lab.data.reported import Intake

        return Intake(self.tables, self.use_case.features, self.use_case.outcome_columns)

    @cached_property
    def quarantine(self) -> "Quarantine":
        from mlops_lab.data.quarantine import Quarantine

        return Quarantine(self.home / "quarantine")

    @cached_property
    def gate(self) -> "Gate":
        from mlops_lab.gates.on_great_expectations import GreatExpectationsGate

        return GreatExpectationsGate()

    @cached_property
    def drift(self) -> "DriftReport":
        from mlops_lab.monitoring.on_evidently import EvidentlyDrift

        return EvidentlyDrift()

    @cached_property
    def catalog(self) -> "Catalog":
        from mlops_lab.registry.on_mlflow import MlflowCatalog

        return MlflowCatalog(self.tracking_uri, self.artifact_root, self.model, self.model)

    @property
    def tracking_uri(self) -> str:
        return self.settings.tracking.uri.rstrip("/") or f"sqlite:///{(self.home / 'mlflow.db').resolve()}"

    @property
    def artifact_root(self) -> Path | None:
        """Where a new experiment keeps its files; a tracking server knows that by itself."""
        return None if self.settings.tracking.uri else (self.home / "mlflow-artifacts").resolve()

    @cached_property
    def packages(self) -> "PackageStore":
        from mlops_lab.bootstrap.packages import packages

        return packages(self.settings)

    @cached_property
    def trainer(self) -> "Trainer":
        from mlops_lab.training.on_sklearn import fit

        return fit

    @cached_property
    def policy(self) -> "Policy":
        from mlops_lab.retraining.policy import Policy

        said = self.settings.policy
        return Policy(
            k=said.k,
            n=said.n,
            cooldown=timedelta(days=said.cooldown_days),
            min_labels=said.min_labels,
            min_coverage=said.min_coverage,
            orders_per_day=said.orders_per_day,
        )

    @cached_property
    def limits(self) -> "JudgeLimits":
        from mlops_lab.registry.judge import JudgeLimits

        said = self.settings.judge
        return JudgeLimits(
            auc_tolerance=said.auc_tolerance,
            slice_margin=said.slice_tolerance,
            slices=self.use_case.slices,
            calibration_error=said.calibration_limit,
            latency_us=said.latency_limit_us,
        )

    @cached_property
    def canary_limits(self) -> "CanaryLimits":
        from mlops_lab.monitoring.canary import CanaryLimits

        said = self.settings.canary
        return CanaryLimits(
            error_rate=said.error_rate_limit,
            errors_in_a_row=said.errors_in_a_row,
            latency_ratio=said.latency_ratio_limit,
            score_shift=said.score_shift_limit,
            score_distance=said.score_distance_limit,
            min_requests=said.min_requests,
            min_s=said.min_s,
            deadline_s=said.deadline_s,
            alpha=said.alpha,
        )

    @property
    def logs_of_replicas(self) -> list[tuple[str, Path]]:
        """Name and prediction log folder of each replica that ever ran in this home."""
        return sorted((path.parent.name, path) for path in self.home.glob("serving/*/log"))
