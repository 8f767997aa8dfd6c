"""What holds for every test: no library calls home, and numeric libraries use one thread. Set before any of them is imported."""

import os

os.environ.update(
    DO_NOT_TRACK="true",  # the word: MLflow overlooks a 1
    MLFLOW_DISABLE_TELEMETRY="true",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    OMP_NUM_THREADS="1",  # on shared cores a second thread makes every fit and every single-row answer several times slower
)
for name in [name for name in os.environ if name.startswith("LAB_")]:
    del os.environ[name]  # a setting of the developer's shell must not decide a test
