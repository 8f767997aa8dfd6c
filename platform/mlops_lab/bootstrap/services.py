"""The processes of the embedded platform: what each runs, where it listens, and how it says that it is ready."""

import sys

from mlops_lab.embedded.service import Service
from mlops_lab.settings import Settings

QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "OMP_NUM_THREADS": "1",
    "PYTHONWARNINGS": "ignore",
}
"""No library calls home, and numeric threads do not fight for two cores."""

INFERENCE, WATCHER, TRAINER, MLFLOW, PREFECT = "inference", "watcher", "trainer", "mlflow", "prefect"


def service_specs(settings: Settings) -> list[Service]:
    """All services, in the order in which they are worth starting."""
    home, consoles, service = settings.home.resolve(), settings.consoles, settings.service
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
        Service(
            name=INFERENCE,
            argv=(sys.executable, "-m", "mlops_lab.bootstrap.serve"),
            address=f"{service.host}:{service.port}",
            ready=f"http://{service.host}:{service.port}/healthz",
            env=QUIET,
            setting="LAB_SERVICE__PORT",
        ),
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
