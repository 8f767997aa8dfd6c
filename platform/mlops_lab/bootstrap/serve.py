"""The serving process: `python -m mlops_lab.bootstrap.serve`. It imports neither MLflow nor scikit-learn nor pandas."""

import sys
from collections.abc import Iterable
from datetime import timedelta

from mlops_lab.bootstrap.chosen import chosen
from mlops_lab.bootstrap.followed import followed
from mlops_lab.bootstrap.identities import FEEDBACK
from mlops_lab.bootstrap.packages import packages
from mlops_lab.bootstrap.row_reader import row_reader
from mlops_lab.bootstrap.telemetry import send_logs, send_metrics, spans_of
from mlops_lab.clock import Clock, WallClock
from mlops_lab.errors import LabError
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.logs import log_to_stderr
from mlops_lab.scoring.keys import KeyRing
from mlops_lab.scoring.scorer import Scorer
from mlops_lab.scoring.store import InTime
from mlops_lab.serving.app import create_app
from mlops_lab.serving.facts import FactStream
from mlops_lab.serving.faults import Faults
from mlops_lab.serving.follower import Limits
from mlops_lab.serving.idempotency import Window
from mlops_lab.serving.on_uvicorn import run
from mlops_lab.serving.parts import assemble
from mlops_lab.serving.source import FeatureSource
from mlops_lab.serving.stored import StoredFeatures
from mlops_lab.serving.tokens import Tokens
from mlops_lab.serving.turns import ConnectionLimits
from mlops_lab.settings import Settings, load_settings
from mlops_lab.telemetry.metrics import Family
from mlops_lab.usecase import OnlineUseCase


def main() -> int:
    """Serve the champion until SIGTERM."""
    log_to_stderr()
    try:
        settings = load_settings()
        send_logs(settings.telemetry, "inference", settings.service.replica)
        serve(settings)
    except LabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def serve(settings: Settings) -> None:
    """Put one replica together and run it."""
    home, service, use_case, clock = settings.home, settings.service, FlightsOnline(), WallClock()
    source = source_of(settings, use_case, clock)
    keys = KeyRing(service.verifying_keys or home / "keys")
    list(keys)  # a replica that could trust nothing says so at once
    parts = assemble(
        home / "serving" / service.replica,
        use_case,
        source=source,
        ledger=followed(settings, use_case.model),
        packages=InTime(packages(settings), service.store_timeout_s),
        keys=keys,
        load=Scorer.from_bytes,
        load_beside=Scorer.from_bytes_gently,
        clock=clock,
        tokens=Tokens(service.tokens or home / "keys" / f"{FEEDBACK}.token"),
        durability=service.durability,
        log_limit_bytes=service.log_limit_mib * 2**20,
        window=Window(service.idempotency_s, service.idempotency_log_mib * 2**20),
        faults=Faults(settings.fault.canary_error_share),
        spans=spans_of(settings.telemetry, "inference", service.replica),
        limits=Limits(every_s=service.follow_s, canary_lease_s=service.canary_lease_s, known_max_age_s=service.known_max_age_s),
    )
    limits = ConnectionLimits(
        body_bytes=service.max_body_bytes,
        head_bytes=service.max_head_bytes,
        headers=service.max_headers,
        head_s=service.head_timeout_s,
        body_s=service.body_timeout_s,
        idle_s=service.idle_timeout_s,
        connections=service.max_connections,
        waiting=service.max_waiting,
        waiting_bytes=service.max_waiting_bytes,
        drain_s=service.drain_s,
    )
    app = create_app(parts, "Will this flight arrive late?", limits, service.max_items)

    def collect() -> Iterable[Family]:
        from mlops_lab.serving.on_prometheus import Metrics  # late: the first answer does not wait for it

        return Metrics(app.service).collect()

    send_metrics(settings.telemetry, "inference", service.replica, collect)
    run(app, service.host, service.port)


def source_of(settings: Settings, use_case: OnlineUseCase, clock: Clock) -> FeatureSource:
    """Where a replica of this home has its features from. Raises SettingsWrong."""
    said, store = settings.features, chosen(settings).store
    if store == "process":
        from mlops_lab.events.in_time import BusInTime

        return FactStream(BusInTime(settings.bus_file), use_case.online(), lateness=timedelta(seconds=said.lateness_s))
    reader, where = row_reader(settings, use_case, said.timeout_ms / 1000)
    return StoredFeatures(reader, use_case.from_rows, where, clock)


if __name__ == "__main__":
    sys.exit(main())
