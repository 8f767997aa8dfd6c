"""The processes of the embedded platform: what each runs, where it listens, and how it says that it is ready."""

import sys

from mlops_lab.bootstrap.chosen import chosen
from mlops_lab.embedded.service import Service
from mlops_lab.errors import SettingsWrong
from mlops_lab.settings import Settings

QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "OMP_NUM_THREADS": "1",
    "PYTHONWARNINGS": "ignore",
}
"""No library calls home, and numeric threads do not fight for two cores."""

INFERENCE, WATCHER, TRAINER, FEATURES, MLFLOW, PREFECT = "inference", "watcher", "trainer", "features", "mlflow", "prefect"


def is_replica(name: str) -> bool:
    """Whether a service of that name answers predictions."""
    return name == INFERENCE or name.startswith(f"{INFERENCE}-")


def _replicas(settings: Settings, replicas: int) -> list[Service]:
    """The inference services: the first as the settings say, the others on the ports behind it, each with a log and a cache of its own.

    Raises:
        SettingsWrong: There are not enough ports, or the first one's name is one that another would have.
    """
    service = settings.service
    if service.port + replicas - 1 > 65535:
        raise SettingsWrong(f"{replicas} replicas from port {service.port} on need ports above 65535.", "set a lower LAB_SERVICE__PORT.")
    if replicas > 1 and service.replica != "replica-1":
        raise SettingsWrong(f"The first of {replicas} replicas is called '{service.replica}'.", "unset LAB_SERVICE__REPLICA, or start one.")
    found = []
    for number in range(1, replicas + 1):
        address = f"{service.host}:{service.port + number - 1}"
        own = {"LAB_SERVICE__REPLICA": f"replica-{number}", "LAB_SERVICE__PORT": str(service.port + number - 1)} if number > 1 else {}
        found.append(
            Service(
                name=INFERENCE if number == 1 else f"{INFERENCE}-{number}",
                argv=(sys.executable, "-m", "mlops_lab.bootstrap.serve"),
                address=address,
                ready=f"http://{address}/healthz",
                env=QUIET | own,
                setting="LAB_SERVICE__PORT",
            )
        )
    return found


def _features(settings: Settings) -> list[Service]:
    """The stream processor, where features are in a store that somebody has to fill."""
    if chosen(settings).store == "process":
        return []
    argv = (sys.executable, "-m", "mlops_lab.pipelines.feature_worker")
    return [Service(name=FEATURES, argv=argv, address="", ready=settings.home.resolve() / f"{FEATURES}.ready", env=QUIET, stop_s=20.0)]


def service_specs(settings: Settings, replicas: int = 1) -> list[Service]:
    """All services, in the order in which they are worth starting. Raises SettingsWrong."""
    home, consoles = settings.home.resolve(), settings.consoles
    prefect_at, mlflow_at = f"127.0.0.1:{consoles.prefect_port}", f"127.0.0.1:{consoles.mlflow_port}"
    prefect_env = {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_API_URL": f"http://{prefect_at}/api",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
    }
    return [
        Service(
            name=PREFECT,
            argv=(sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(consoles.prefect_port)),
            address=prefect_at,
            ready=f"http://{prefect_at}/api/health",
            env=QUIET | prefect_env,
            setting="LAB_CONSOLES__PREFECT_PORT",
            ready_s=120.0,
        ),
        *(
            Service(
                name=name,
                argv=(sys.executable, "-m", "mlops_lab.pipelines.worker", name),
                address="",
                ready=home / f"{name}.ready",
                env=QUIET | prefect_env,
                stop_s=20.0,
            )
            for name in (WATCHER, TRAINER)
        ),
        *_features(settings),
        *_replicas(settings, replicas),
        Service(
            name=MLFLOW,
            argv=(
                *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(consoles.mlflow_port), "--workers", "1"),
                *("--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}", "--artifacts-destination", str(home / "mlflow-artifacts")),
            ),
            address=mlflow_at,
            ready=f"http://{mlflow_at}/health",
            env=QUIET | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            setting="LAB_CONSOLES__MLFLOW_PORT",
            ready_s=120.0,
        ),
    ]
