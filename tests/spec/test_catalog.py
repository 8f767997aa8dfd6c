"""The catalog of model versions: one promise, kept by the twin in memory and by MLflow on an SQLite file."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_lab.errors import RegistryUnreachable, ScorerRefused, SettingsWrong, UnknownVersion
from mlops_lab.registry.catalog import Catalog
from mlops_lab.registry.in_memory import InMemoryCatalog
from mlops_lab.scoring import Package
from model_builders import a_candidate, a_recipe, some_rows

pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),  # MLflow's tables on SQLAlchemy 2.1
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType"),  # said by MLflow about its own chat types
]

MakeCatalog = Callable[[str], Catalog]


@pytest.fixture(scope="module")
def mlflow_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One database for all tests, since making its tables takes seconds; each test has a model of its own in it."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(params=["in_memory", "mlflow"])
def make(request: pytest.FixtureRequest, mlflow_home: Path) -> MakeCatalog:
    """A catalog of a model; on MLflow a new object each time, as in another process."""
    if request.param == "in_memory":
        kept: dict[str, Catalog] = {}
        return lambda model: kept.setdefault(model, InMemoryCatalog(model))
    from mlops_lab.registry.on_mlflow import MlflowCatalog

    return lambda model: MlflowCatalog(f"sqlite:///{mlflow_home}/mlflow.db", mlflow_home / "artifacts", "flights", model)


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    name: str = request.node.originalname
    return name.removeprefix("test_")[:40]


def test_versions_are_counted_from_one_and_each_has_a_run(make: MakeCatalog, model: str) -> None:
    catalog = make(model)
    assert (catalog.versions(), catalog.alias()) == ((), None)

    first, second = (catalog.register(a_candidate(order, model)) for order in ("order-1", "order-2"))

    assert (first.number, second.number) == (1, 2)
    assert first.run_id != second.run_id
    assert make(model).versions() == (1, 2)
    assert make(model + "-other").versions() == ()


def test_one_order_gives_one_version_however_often_it_is_registered(make: MakeCatalog, model: str) -> None:
    once = make(model).register(a_candidate("order-1", model))

    assert make(model).register(a_candidate("order-1", model)) == once
    assert make(model).versions() == (1,)


def test_a_version_says_where_it_came_from(make: MakeCatalog, model: str) -> None:
    candidate = a_candidate("order-1", model, tags={"drill": "label flip"})
    make(model).register(candidate)

    found = make(model).tags(1)

    assert (
        found.items()
        >= {
            "order_id": "order-1",
            "scorer_sha256": candidate.scorer_sha256,
            "data_sha256": "d" * 64,
            "recipe_sha256": a_recipe().digest(),
            "trained_until": "2013-01-01T00:00:00Z",
            "origin": "first",
            "registered_by": "trainer",
            "git_commit": "0123abc",
            "lock_sha256": "f" * 64,
            "sources": "delta:flights@3 delta:weather@1",
            "drill": "label flip",
        }.items()
    )
    assert make(model).package(1) == candidate.package


def test_notes_are_replaced_by_key(make: MakeCatalog, model: str) -> None:
    catalog = make(model)
    catalog.register(a_candidate("order-1", model))

    catalog.tag(1, "judgement", "keep")
    catalog.tag(1, "judgement", "promote")

    assert make(model).tags(1)["judgement"] == "promote"


def test_the_alias_shows_what_the_ledger_says(make: MakeCatalog, model: str) -> None:
    catalog = make(model)
    for order in ("order-1", "order-2"):
        catalog.register(a_candidate(order, model))

    shown = []
    for version in (None, 1, 2, 2, 1, None, None):
        catalog.project_alias(version)
        shown.append(make(model).alias())

    assert shown == [None, 1, 2, 2, 1, None, None]


def test_a_version_that_is_not_there_is_named_with_those_that_are(make: MakeCatalog, model: str) -> None:
    catalog = make(model)
    for call in (lambda: catalog.tags(7), lambda: catalog.tag(7, "a", "b"), lambda: catalog.package(7), lambda: catalog.project_alias(7)):
        with pytest.raises(UnknownVersion, match="none is registered yet"):
            call()
    catalog.register(a_candidate("order-1", model))
    with pytest.raises(UnknownVersion, match="choose one of: 1"):
        catalog.tags(7)
    with pytest.raises(UnknownVersion):
        catalog.project_alias(7)
    assert catalog.alias() is None


def test_a_manifest_of_something_else_is_refused(make: MakeCatalog, model: str) -> None:
    """The signed label must be that of the very model, scorer, rows and recipe."""
    catalog, candidate = make(model), a_candidate("order-1", model)
    strangers = (
        a_candidate("order-1", "another-model"),
        a_candidate("order-1", model, data_sha256="0" * 64),
        a_candidate("order-1", model, recipe=a_recipe(seed=8)),
        a_candidate("order-1", model, package=Package(b"{}", candidate.package.manifest, candidate.package.signature)),
    )
    for stranger in strangers:
        with pytest.raises(ScorerRefused):
            catalog.register(stranger)
    assert catalog.versions() == ()


def test_an_order_id_cannot_reach_into_a_query() -> None:
    for order in ("", "o' or '1'='1", "a\nb", "x" * 201, 'o"'):
        with pytest.raises(SettingsWrong):
            a_candidate(order)


class TestOnMlflow:
    """What only MLflow itself can show."""

    @pytest.fixture
    def make(self, mlflow_home: Path) -> MakeCatalog:
        from mlops_lab.registry.on_mlflow import MlflowCatalog

        return lambda model: MlflowCatalog(f"sqlite:///{mlflow_home}/mlflow.db", mlflow_home / "artifacts", "flights", model)

    def test_a_run_that_a_crash_left_is_finished_not_repeated(
        self, make: MakeCatalog, model: str, mlflow_home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Killed at any call between run and version, the next attempt uses the same run and gives one version."""
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{mlflow_home}/mlflow.db")
        steps = ("create_logged_model", "log_model_artifacts", "finalize_logged_model", "log_batch", "log_inputs", "create_model_version")
        for step in steps:
            with monkeypatch.context() as patch:
                patch.setattr(MlflowClient, step, _die)
                with pytest.raises(KeyboardInterrupt):
                    make(model).register(a_candidate("order-1", model))

        registered = make(model).register(a_candidate("order-1", model))

        experiment = client.get_experiment_by_name("flights")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id], f"tags.model = '{model}'")
        assert [run.info.run_id for run in runs] == [registered.run_id]
        assert runs[0].info.status == "FINISHED"
        assert registered.number == 1

    def test_a_version_without_its_runs_end_is_closed_by_the_next_attempt(
        self, make: MakeCatalog, model: str, mlflow_home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from mlflow import MlflowClient

        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, "set_terminated", _die)
            with pytest.raises(KeyboardInterrupt):
                make(model).register(a_candidate("order-1", model))

        registered = make(model).register(a_candidate("order-1", model))

        assert registered.number == 1
        assert MlflowClient(f"sqlite:///{mlflow_home}/mlflow.db").get_run(registered.run_id).info.status == "FINISHED"

    def test_the_run_holds_lineage_metrics_and_tables(self, make: MakeCatalog, model: str, mlflow_home: Path) -> None:
        import json

        from mlflow import MlflowClient

        registered = make(model).register(a_candidate("order-1", model))
        client = MlflowClient(f"sqlite:///{mlflow_home}/mlflow.db")

        run = client.get_run(registered.run_id)

        assert run.data.metrics["roc_auc"] == 0.7
        assert run.data.metrics["roc_auc_low"] == 0.65
        assert run.data.params["rounds"] == "20"
        assert run.data.tags["mlflow.source.git.commit"] == "0123abc"
        datasets = {one.dataset.name: (one.dataset.source, one.dataset.digest, one.tags[0].value) for one in run.inputs.dataset_inputs}
        assert datasets == {
            "flights@3": ("delta:flights@3", "d" * 36, "training"),
            "weather@1": ("delta:weather@1", "e" * 36, "evaluation"),
        }
        assert {one.path for one in client.list_artifacts(registered.run_id)} == {"evaluation.json", "recipe.json", "slices.json"}
        table = json.loads(Path(client.download_artifacts(registered.run_id, "slices.json")).read_text())
        assert table["data"][1] == ["origin", "(missing)", 3, 1.0, 0.5, 0.25, None]
        logged = client.get_logged_model(run.outputs.model_outputs[0].model_id)
        assert logged.status == "READY"
        assert {metric.key: metric.value for metric in logged.metrics or []}["roc_auc"] == 0.7

    def test_anybody_can_load_it_by_its_alias_and_it_answers_like_the_scorer(
        self, make: MakeCatalog, model: str, mlflow_home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`mlflow.pyfunc.load_model` needs no pickle, and takes missing values and unknown categories."""
        import mlflow
        import numpy as np

        from mlops_lab.scoring import Scorer
        from mlops_lab.training.rows import values_of

        catalog, candidate = make(model), a_candidate("order-1", model)
        catalog.register(candidate)
        catalog.project_alias(1)
        before = mlflow.get_tracking_uri()
        monkeypatch.chdir(mlflow_home)
        mlflow.set_tracking_uri(f"sqlite:///{mlflow_home}/mlflow.db")
        try:
            loaded = mlflow.pyfunc.load_model(f"models:/{model}@champion")
        finally:
            mlflow.set_tracking_uri(before)
        frame = some_rows(100).features
        frame.loc[0, "origin"] = "XXX"

        scorer = Scorer.from_bytes(candidate.package.scorer)
        assert np.array_equal(loaded.predict(frame), scorer.score(scorer.encode(values_of(frame, scorer.features))))
        assert not [path for path in mlflow_home.rglob("*") if path.suffix in {".pkl", ".pickle", ".skops", ".joblib"}]

    def test_a_tampered_scorer_is_not_loaded(self, make: MakeCatalog, model: str, mlflow_home: Path, tmp_path: Path) -> None:
        from mlops_lab.registry.pyfunc import _load_pyfunc

        for name, content in zip(("scorer.json", "manifest.json", "signature"), a_candidate().package, strict=True):
            (tmp_path / name).write_bytes(content)
        assert _load_pyfunc(str(tmp_path)).scorer.features
        (tmp_path / "scorer.json").write_bytes(a_candidate().package.scorer.replace(b"0.75", b"0.95"))

        with pytest.raises(ScorerRefused, match="digest"):
            _load_pyfunc(str(tmp_path))

    def test_a_database_that_is_none_is_said_with_its_place(self, tmp_path: Path) -> None:
        from mlops_lab.registry.on_mlflow import MlflowCatalog

        (tmp_path / "mlflow.db").write_text("this is no database, but long enough to be taken for one" * 100)

        with pytest.raises(RegistryUnreachable, match=r"mlflow\.db"):
            MlflowCatalog(f"sqlite:///{tmp_path}/mlflow.db", tmp_path, "flights", "flight-delay").versions()


def _die(*_: object, **__: object) -> None:
    raise KeyboardInterrupt  # what no handler of ours catches, as a kill
