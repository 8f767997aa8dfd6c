"""What is served: one fit of the flights recipe, for MLflow and for us; homes to serve it from; the flights that are asked about.

As a program: `python -m benchmarks.serving.material CACHE RUN` fits once into CACHE and makes homes and flights below RUN. It is a process
of its own, so that whoever measures need not carry pandas, scikit-learn and MLflow.
"""

import json
import os
import pickle
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

APRIL = datetime(2013, 4, 1, tzinfo=UTC)
"""The models have seen January to March; the service answers behind it."""

NOW = datetime(2013, 4, 3, 23, tzinfo=UTC)
"""Event time of the run: a Wednesday evening. The bus holds the facts of the 60 hours before, asked are flights of the 12 hours before."""

FACTS_SPAN, ASKED_SPAN = timedelta(hours=60), timedelta(hours=12)
FLIGHTS = 512
TRIAL_WEIGHT = 0.1

HOMES = ("default", "disk", "shadow", "canary")
"""A home each, because the ledger's roles are a home's."""


@dataclass(frozen=True)
class Material:
    """Where everything lies."""

    reference: Path
    run: Path

    def home(self, name: str) -> Path:
        return self.run / name

    @property
    def scorer(self) -> Path:
        """The champion's scorer file."""
        return self.run / "scorer.json"

    @property
    def rows(self) -> Path:
        """The features of the flights as our service computed them, once it was asked."""
        return self.run / "rows.json"

    def items(self) -> list[dict[str, Any]]:
        """The flights, as request items."""
        found: list[dict[str, Any]] = json.loads((self.run / "flights.json").read_text())
        return found


def cache_folder(cache: Path) -> Path:
    """The folder of the fits: another recipe or another library gets another one."""
    from mlops_lab.flights.usecase import RECIPE
    from mlops_lab.scoring.manifest import sha256

    about = [RECIPE.digest(), installed("scikit-learn"), installed("mlflow"), sys.version, "1"]
    return cache / f"fit-{sha256(json.dumps(about).encode())[:16]}"


def fit_all(folder: Path, data: Path) -> None:
    """Fit champion and challenger, and keep both pipelines as MLflow models."""
    import mlflow
    from mlflow.models import infer_signature

    from mlops_lab.features.view import Kind
    from mlops_lab.flights import source
    from mlops_lab.flights.usecase import RECIPE, Flights
    from mlops_lab.training.on_sklearn import fit
    from mlops_lab.training.rows import model_frame

    year = source.load(data)
    rows = Flights(data).history({"flights": year.flights, "weather": year.weather}, APRIL).before(APRIL)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    facts: dict[str, Any] = {"rows": len(rows), "data_sha256": rows.digest()}
    for name, chosen in (("champion", rows), ("challenger", rows.before(datetime(2013, 3, 1, tzinfo=UTC)))):
        print(f"fitting the {name} on {len(chosen)} flights", flush=True)
        fitted = fit(RECIPE, chosen)
        frame = model_frame(chosen.features, RECIPE.features).head(1000)
        for feature in RECIPE.features:
            if feature.kind is Kind.CATEGORY:
                frame[feature.name] = frame[feature.name].astype("str")
        mlflow.sklearn.save_model(
            fitted.pipeline,
            aside / name,
            serialization_format="pickle",
            signature=infer_signature(frame, fitted.pipeline.predict_proba(frame)),
            pyfunc_predict_fn="predict_proba",
            pip_requirements=[f"scikit-learn=={installed('scikit-learn')}", f"pandas=={installed('pandas')}"],
        )
    (aside / "facts.json").write_text(json.dumps(facts))
    aside.rename(folder)


def exported(folder: Path, name: str) -> bytes:
    """The scorer file of the very pipeline that MLflow serves: read back from MLflow's own file, so both are one fit."""
    from mlops_lab.flights.usecase import RECIPE
    from mlops_lab.training.export import export
    from mlops_lab.training.on_sklearn import SklearnFitted

    return export(SklearnFitted(RECIPE, pickle.loads((folder / name / "model.pkl").read_bytes())))


def make_home(home: Path, data: Path, folder: Path) -> None:
    """Found a home whose champion is version 1, whose bus holds the facts, and whose trial (if its name says so) is version 2."""
    from mlops_lab.bootstrap import Lab
    from mlops_lab.bootstrap.founding import found
    from mlops_lab.bootstrap.identities import OPERATOR, TRAINER
    from mlops_lab.events import OBSERVATIONS, REFERENCES
    from mlops_lab.flights import messages, source
    from mlops_lab.flights.timeline import Timeline
    from mlops_lab.flights.usecase import RECIPE
    from mlops_lab.registry.version import ModelVersion, Role
    from mlops_lab.scoring.keys import signing_key
    from mlops_lab.scoring.manifest import Manifest, sha256, sign
    from mlops_lab.settings import Settings

    lab = Lab(Settings(home=home, data=data))
    found(lab)
    known = json.loads((folder / "facts.json").read_text())
    for number, name in enumerate(("champion", "challenger"), start=1):
        scorer = exported(folder, name)
        manifest = Manifest(lab.model, sha256(scorer), known["data_sha256"], RECIPE.digest())
        digest = lab.packages.put(scorer, manifest.to_bytes(), sign(manifest, signing_key(lab.keys)))
        version = ModelVersion(lab.model, number, name, digest, known["data_sha256"], APRIL, lab.clock.now(), TRAINER, name)
        lab.ledger.add_version(version, TRAINER)
    why = "a benchmark's own home"
    lab.ledger.assign(Role.CHAMPION, 1, replacing=None, kind="override", by=OPERATOR, why=why, at=APRIL)
    if home.name in ("shadow", "canary"):
        lab.ledger.assign(Role(home.name), 2, replacing=None, kind="override", by=OPERATOR, why=why, at=APRIL, weight=TRIAL_WEIGHT)
    year = source.load(data)
    lab.bus.publish(REFERENCES, list(messages.aircraft(year.aircraft, NOW - FACTS_SPAN)))
    lab.bus.publish(OBSERVATIONS, Timeline(year, lab.seed).warm_up(NOW, FACTS_SPAN))


def flights(data: Path) -> list[dict[str, Any]]:
    """The flights of the 12 hours before `NOW`; every fourth with something that the model or the service does not know."""
    from mlops_lab.flights import source
    from mlops_lab.flights.timeline import Timeline

    questions = [q for step in Timeline(source.load(data), 7).steps(NOW - ASKED_SPAN, NOW) for q in step.questions]
    items = [json.loads(body) for _, body in questions][:FLIGHTS]
    strange = ({"carrier": "ZZ"}, {"destination": "QQQ"}, {"tail_number": None, "distance_miles": None}, {"origin": "XXX"})
    for i, item in enumerate(items):
        if i % 4 == 0:
            item.update(strange[i // 4 % len(strange)])
    return items


def main() -> int:
    """Fit if needed, then make the homes."""
    cache, run, data = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    folder = cache_folder(cache)
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        fit_all(folder, data)
    run.mkdir(parents=True)
    for name in HOMES:
        make_home(run / name, data, folder)
    items = flights(data)
    (run / "flights.json").write_text(json.dumps(items))
    (run / "scorer.json").write_bytes(exported(folder, "champion"))
    (run / "reference.txt").write_text(str(folder / "champion"))
    print(f"homes with {len(items)} flights to ask about", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
