"""The model catalog on MLflow: an SQLite file and local artifacts used directly, or a tracking server, by the same calls.

No active run and no global tracking URI: every call goes through one client, so that threads and other users of MLflow in the process
do not meet. Logged models are written by hand as a flavor of our own; inferring dependencies and environments would take seconds.
"""

import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read while mlflow is imported
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # three small files need none

from mlflow import MlflowClient, artifacts
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModel, LoggedModelOutput, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_GIT_COMMIT

from mlops_lab.errors import RegistryUnreachable, SettingsWrong, UnknownVersion
from mlops_lab.registry.candidate import Candidate, DataInput
from mlops_lab.registry.catalog import ALIAS, Registered, require_own
from mlops_lab.registry.model_files import PACKAGE_FOLDER, write_logged_model, write_run_files
from mlops_lab.scoring.store import Package

_DIGEST_LIMIT = 36
"""MLflow keeps no more of a dataset's digest; the whole one is in the dataset's profile."""


class MlflowCatalog:
    """Keeps registry.catalog.Catalog. Opens nothing before the first call.

    Args:
        tracking_uri: `sqlite:///<path>` or the address of a tracking server.
        artifact_root: Folder or URI under which a new experiment keeps its files; None leaves it to the server.
        experiment: Name of the experiment that holds the runs; made if it is not there.
        model: Name of the registered model.

    Two processes that register the same order at the same moment could both get a version, since MLflow has no lock:
    orders are deduplicated where they are handed out. Threads of one process are kept apart here.
    """

    def __init__(self, tracking_uri: str, artifact_root: str | Path | None, experiment: str, model: str) -> None:
        self._uri, self._artifact_root, self._experiment, self._model = tracking_uri, artifact_root, experiment, model
        self._lock = threading.Lock()

    @property
    def model(self) -> str:
        return self._model

    def register(self, candidate: Candidate) -> Registered:
        """See Catalog.register. A run left by a crash is finished, not repeated."""
        require_own(self._model, candidate)
        with self._lock, self._speaking():
            done = self._client.search_model_versions(f"name = '{self._model}' and tags.order_id = '{candidate.order_id}'")
            if done:
                first = min(done, key=lambda version: int(version.version))
                self._finish(str(first.run_id))
                return Registered(int(first.version), str(first.run_id))
            run = self._run(candidate)
            model = self._logged_model(candidate, run)
            self._describe(candidate, run, model)
            self._ensure_model()
            version = self._client.create_model_version(
                self._model,
                source=model.artifact_location,  # for `models:/<id>` the SQL store would ask the process-wide tracking URI
                run_id=run.info.run_id,
                tags={**candidate.facts(), "model_id": model.model_id},
                model_id=model.model_id,
                await_creation_for=0,
            )
            self._finish(run.info.run_id)
            return Registered(int(version.version), run.info.run_id)

    def versions(self) -> tuple[int, ...]:
        with self._speaking():
            return tuple(sorted(self._numbers()))

    def tags(self, version: int) -> dict[str, str]:
        with self._speaking(version):
            return dict(self._client.get_model_version(self._model, str(version)).tags)

    def metrics(self, version: int) -> dict[str, float]:
        with self._speaking(version):
            return dict(self._client.get_run(str(self._client.get_model_version(self._model, str(version)).run_id)).data.metrics)

    def tag(self, version: int, key: str, value: str) -> None:
        with self._speaking(version):
            self._client.set_model_version_tag(self._model, str(version), key, value)

    def package(self, version: int) -> Package:
        with self._speaking(version):
            location = self._client.get_model_version_download_uri(self._model, str(version))
            with tempfile.TemporaryDirectory() as target:
                folder = Path(artifacts.download_artifacts(f"{location}/{PACKAGE_FOLDER}", dst_path=target, tracking_uri=self._uri))
                return Package(*((folder / name).read_bytes() for name in ("scorer.json", "manifest.json", "signature")))

    def project_alias(self, version: int | None) -> None:
        with self._speaking(version):
            if version is not None:
                self._client.get_model_version(self._model, str(version))  # setting an alias does not look whether the version exists
                self._client.set_registered_model_alias(self._model, ALIAS, str(version))
            elif self.alias() is not None:
                self._client.delete_registered_model_alias(self._model, ALIAS)

    def alias(self) -> int | None:
        with self._speaking():
            try:
                return int(self._client.get_model_version_by_alias(self._model, ALIAS).version)
            except MlflowException as error:
                if _is(error, RESOURCE_DOES_NOT_EXIST, INVALID_PARAMETER_VALUE):  # no such model; no such alias
                    return None
                raise

    @cached_property
    def _client(self) -> MlflowClient:
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        if self._uri.startswith("sqlite:///"):
            Path(self._uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        return MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    @cached_property
    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            root = self._artifact_root
            location = Path(root).resolve().as_uri() if root is not None and "://" not in str(root) else root
            try:
                return str(self._client.create_experiment(self._experiment, artifact_location=None if location is None else str(location)))
            except MlflowException as error:  # somebody else was quicker
                found = self._client.get_experiment_by_name(self._experiment) if _is(error, RESOURCE_ALREADY_EXISTS) else None
                if found is None:
                    raise
        return str(found.experiment_id)

    def _ensure_model(self) -> None:
        try:
            self._client.create_registered_model(self._model)
        except MlflowException as error:
            if not _is(error, RESOURCE_ALREADY_EXISTS):
                raise

    def _numbers(self) -> list[int]:
        numbers: list[int] = []
        token = None
        while True:
            page = self._client.search_model_versions(f"name = '{self._model}'", max_results=1_000, page_token=token)
            numbers += [int(version.version) for version in page]
            token = page.token
            if not token:
                return numbers

    def _run(self, candidate: Candidate) -> Run:
        """The run of this order: the one that a crash left behind, else a new one."""
        mine = f"tags.model = '{self._model}' and tags.order_id = '{candidate.order_id}'"
        left = self._client.search_runs([self._experiment_id], mine, order_by=["attributes.start_time ASC"], max_results=1)
        if left:
            return left[0]
        tags = {**candidate.facts(), MLFLOW_GIT_COMMIT: candidate.git_commit}
        return self._client.create_run(self._experiment_id, tags=tags, run_name=f"{candidate.recipe.name} {candidate.order_id}")

    def _logged_model(self, candidate: Candidate, run: Run) -> LoggedModel:
        """The model with its files; one that a crash left half written is marked as failed by its missing version."""
        model = self._client.create_logged_model(
            self._experiment_id,
            name=self._model,
            source_run_id=run.info.run_id,
            tags={"order_id": candidate.order_id, "scorer_sha256": candidate.scorer_sha256},
            params=_parameters(candidate),
            model_type="scorer",
        )
        with tempfile.TemporaryDirectory() as folder:
            write_logged_model(Path(folder), candidate, model.model_id, run.info.run_id, model.artifact_location)
            self._client.log_model_artifacts(model.model_id, folder)
        self._client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
        return self._client.finalize_logged_model(model.model_id, "READY")

    def _describe(self, candidate: Candidate, run: Run, model: LoggedModel) -> None:
        """Parameters, metrics (of run and model), inputs and tables."""
        now = int(time.time() * 1000)
        metrics = [
            Metric(key, value, now, 0, model_id=model.model_id, run_id=run.info.run_id)
            for key, value in candidate.evaluation.metrics().items()
            if value == value  # MLflow on SQL keeps no NaN
        ]
        params = [Param(key, value) for key, value in _parameters(candidate).items()]
        self._client.log_batch(run.info.run_id, metrics=metrics, params=params, tags=[RunTag("model_id", model.model_id)])
        self._client.log_inputs(run.info.run_id, datasets=[_dataset(one) for one in candidate.inputs])
        with tempfile.TemporaryDirectory() as folder:
            write_run_files(Path(folder), candidate)
            self._client.log_artifacts(run.info.run_id, folder)

    def _finish(self, run_id: str) -> None:
        if self._client.get_run(run_id).info.status != "FINISHED":
            self._client.set_terminated(run_id)

    @contextmanager
    def _speaking(self, version: int | None = None) -> Iterator[None]:
        """Turn MLflow's errors into ours."""
        try:
            yield
        except MlflowException as error:
            if version is not None and _is(error, RESOURCE_DOES_NOT_EXIST):
                raise UnknownVersion.of(self._model, version, self.versions()) from error
            if _is(error, INVALID_PARAMETER_VALUE):
                raise SettingsWrong(f"MLflow refuses a value: {error.message}", "shorten or rename it.") from error
            raise RegistryUnreachable.at(self._uri, str(error.message)) from error
        except Exception as error:
            # The store lets errors of its database driver through; by name, since SQLAlchemy itself is none of our business here.
            if isinstance(error, OSError) or type(error).__module__.startswith("sqlalchemy."):
                raise RegistryUnreachable.at(self._uri, str(error)) from error
            raise


def _is(error: MlflowException, *codes: "ErrorCode.ValueType") -> bool:
    return error.error_code in {ErrorCode.Name(code) for code in codes}


def _parameters(candidate: Candidate) -> dict[str, str]:
    recipe = candidate.recipe
    names = ("rounds", "learning_rate", "max_leaf_nodes", "min_samples_leaf", "l2", "seed")
    return {"recipe": recipe.name, "features": str(len(recipe.features)), **{name: str(getattr(recipe, name)) for name in names}}


def _dataset(one: DataInput) -> DatasetInput:
    # MLflow keeps one record per name and digest, with the source it saw first: the version belongs into the name.
    profile = f'{{"num_rows":{one.rows},"sha256":"{one.digest}"}}'
    described = Dataset(f"{one.name}@{one.version}", one.digest[:_DIGEST_LIMIT], "delta", one.source, profile=profile)
    return DatasetInput(described, [InputTag(MLFLOW_DATASET_CONTEXT, one.context)])
