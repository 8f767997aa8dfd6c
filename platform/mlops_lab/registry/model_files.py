"""The files that describe a candidate in a catalog: a folder in MLflow's model layout, and the tables of its run.

The layout is written here as the plain data it is (`MLmodel` is YAML, of which JSON is a part), so nothing has to infer it.
"""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlops_lab.features.view import Feature, Kind
from mlops_lab.registry.candidate import Candidate

PACKAGE_FOLDER = "package"
LOADER = "mlops_lab.registry.pyfunc"
_TYPES = {Kind.NUMBER: "double", Kind.CATEGORY: "string"}


def write_logged_model(folder: Path, candidate: Candidate, model_id: str, run_id: str, location: str) -> None:
    """Write `MLmodel`, `requirements.txt` and `package/{scorer.json,manifest.json,signature}`.

    Args:
        folder: An empty folder.
        candidate: What is described.
        model_id: The logged model's id.
        run_id: The run that made it.
        location: Where the folder will be kept.
    """
    package = folder / PACKAGE_FOLDER
    package.mkdir()
    for name, content in zip(("scorer.json", "manifest.json", "signature"), candidate.package, strict=True):
        (package / name).write_bytes(content)
    requirements = [f"{name}=={version(name)}" for name in ("mlops-lab", "numpy", "pandas")]
    (folder / "requirements.txt").write_text("\n".join(requirements) + "\n")
    (folder / "MLmodel").write_text(json.dumps(_ml_model(candidate, model_id, run_id, location), indent=2))


def write_run_files(folder: Path, candidate: Candidate) -> None:
    """Write `recipe.json`, `evaluation.json` and `slices.json` (a table: columns and data)."""
    (folder / "recipe.json").write_bytes(candidate.recipe.to_bytes())
    (folder / "evaluation.json").write_text(json.dumps(candidate.evaluation.metrics(), indent=2))
    slices = candidate.evaluation.to_dict()["slices"]
    columns = ["column", "value", "rows", "base_rate", "mean_probability", "brier", "roc_auc"]
    (folder / "slices.json").write_text(json.dumps({"columns": columns, "data": [[one[name] for name in columns] for one in slices]}))


def _ml_model(candidate: Candidate, model_id: str, run_id: str, location: str) -> dict[str, Any]:
    inputs = [_column(feature) for feature in candidate.recipe.features]
    outputs = [{"type": "double", "name": "probability", "required": True}]
    return {
        "artifact_path": location,
        "run_id": run_id,
        "model_id": model_id,
        "model_uuid": model_id,
        "mlflow_version": version("mlflow"),
        "flavors": {
            "python_function": {"loader_module": LOADER, "data": PACKAGE_FOLDER, "python_version": platform.python_version()},
            "mlops_lab": {"data": PACKAGE_FOLDER, "format": "mlops-lab-package/1", "scorer_sha256": candidate.scorer_sha256},
        },
        "signature": {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs), "params": None},
        "metadata": {"meanings": {feature.name: f"{feature.meaning} [{feature.unit}]" for feature in candidate.recipe.features}},
    }


def _column(feature: Feature) -> dict[str, Any]:
    return {"type": _TYPES[feature.kind], "name": feature.name, "required": True}
