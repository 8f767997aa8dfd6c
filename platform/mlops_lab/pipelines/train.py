"""From accepted history and captured production to one registered challenger. Four steps, so that each can be seen on its own."""

import hashlib
import subprocess
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlops_lab.bootstrap import Lab
from mlops_lab.data.label import OUTCOMES
from mlops_lab.data.prediction import PREDICTIONS
from mlops_lab.errors import NoChampion, NotEnoughData
from mlops_lab.monitoring.window import Window
from mlops_lab.pipelines.captured import captured, labelled, training_rows, without_incidents
from mlops_lab.pipelines.orders import TrainModel
from mlops_lab.pipelines.traced import step
from mlops_lab.registry.candidate import Candidate, DataInput
from mlops_lab.registry.version import ModelVersion
from mlops_lab.scoring.keys import signing_key
from mlops_lab.scoring.manifest import Manifest, sha256, sign
from mlops_lab.scoring.scorer import Scorer
from mlops_lab.scoring.store import Package
from mlops_lab.training.evaluate import Evaluation, evaluate
from mlops_lab.training.export import check_parity, export
from mlops_lab.training.rows import TrainingRows, model_frame

MIN_ROWS = 5_000
PARITY_ROWS = 10_000


@dataclass(frozen=True)
class Material:
    """What a challenger is made from and measured on.

    Attributes:
        training: Rows before `trained_until`.
        data_sha256: Their digest.
        held_out: Labelled rows of the newest closed weeks, behind it.
        trained_until: Event time of the cut.
        inputs: The table versions they came from.
    """

    training: TrainingRows
    data_sha256: str
    held_out: TrainingRows
    trained_until: datetime
    inputs: tuple[DataInput, ...]


@dataclass(frozen=True)
class Made:
    """A fitted model as its signed package, with what it is worth on the held-out rows."""

    package: Package
    scorer: Scorer
    evaluation: Evaluation
    parity: float


def judged_weeks(at: datetime, weeks: int) -> tuple[Window, Window]:
    """First and last of the newest closed windows at a moment: those that are kept from training, for the judge."""
    last = Window.containing(at).before()
    return last.before(weeks - 1), last


def held_out_rows(lab: Lab, at: datetime) -> TrainingRows:
    """Labelled rows of the newest closed weeks: as production answered them, or from accepted history where it did not answer yet.

    Weeks that ended in a data incident are left out; if too little remains, the judge refuses.
    """
    first, last = judged_weeks(at, lab.settings.judge.weeks)
    served = without_incidents(lab, training_rows(lab, labelled(lab, first.start, last.end, at).rows))
    history = _history(lab, at).since(first.start).before(last.end)
    return served.concat(history)


@step("gather rows")
def gather(order: TrainModel, lab: Lab) -> Material:
    """Collect the rows of an order.

    Raises:
        NotEnoughData: No batch was accepted, or too few labelled rows lie before the weeks that the judge needs.
    """
    first, _ = judged_weeks(order.at, lab.settings.judge.weeks)
    snapshot = lab.snapshots.latest(before=order.at)
    history = _history(lab, order.at).before(first.start)
    seen = captured(lab, first.start, order.at)
    training = seen.rows.concat(history)
    if len(training) < MIN_ROWS or training.labels.all() or not training.labels.any():
        raise NotEnoughData(
            f"Only {len(training)} labelled rows with both labels lie before {first.start:%Y-%m-%d}; {MIN_ROWS} are needed.",
            "ingest more weeks with `lab ingest`, or replay more with `lab replay`.",
        )
    if order.flip_share:
        training = _flipped(training, order.flip_share, lab.seed)
    inputs = [
        DataInput(table, table, lab.snapshots.table_version(table, snapshot), snapshot.digest, len(history))
        for table in sorted(snapshot.table_versions)
    ]
    if len(seen.rows):
        inputs += [DataInput(table, table, seen.versions[table], seen.rows.digest(), len(seen.rows)) for table in (PREDICTIONS, OUTCOMES)]
    for one in inputs:
        lab.tables.pin(one.table, one.version, order.id)
    return Material(training, training.digest(), held_out_rows(lab, order.at), first.start, tuple(inputs))


@step("fit, export, measure")
def make(material: Material, lab: Lab) -> Made:
    """Fit, export as data, prove that the export answers like the pipeline, measure, sign."""
    recipe = lab.use_case.recipe
    fitted = lab.trainer(recipe, material.training)
    content = export(fitted)
    scorer = Scorer.from_bytes(content)
    chance = np.random.default_rng(lab.seed)
    probed = chance.choice(len(material.training), size=min(PARITY_ROWS, len(material.training)), replace=False)
    parity = check_parity(fitted, scorer, material.training.features.iloc[np.sort(probed)], seed=lab.seed)
    manifest = Manifest(lab.model, sha256(content), material.data_sha256, recipe.digest())
    package = Package(content, manifest.to_bytes(), sign(manifest, signing_key(lab.keys)))
    held = material.held_out
    slices = {name: held.features[name].to_numpy() for name in lab.use_case.slices}
    evaluation = evaluate(probabilities_of(scorer, held), held.labels, held.days, slices, lab.seed)
    return Made(package, scorer, evaluation, parity.max_difference)


@step("register version")
def register(order: TrainModel, material: Material, made: Made, lab: Lab) -> ModelVersion:
    """Publish the package, describe it in the catalog, enter it in the ledger. Again changes nothing."""
    digest = lab.packages.put(*made.package)
    candidate = Candidate(
        order_id=order.id,
        package=made.package,
        recipe=lab.use_case.recipe,
        evaluation=made.evaluation,
        inputs=material.inputs,
        data_sha256=material.data_sha256,
        trained_until=material.trained_until,
        origin=order.origin,
        registered_by=order.by,
        git_commit=_git_commit(),
        lock_sha256=_lock_sha256(),
        tags={"training_rows": str(len(material.training)), "flip_share": str(order.flip_share), "parity": f"{made.parity:.1e}"},
    )
    number, run_id = lab.catalog.register(candidate)
    version = ModelVersion(
        model=lab.model,
        number=number,
        run_id=run_id,
        scorer_sha256=digest,
        data_sha256=material.data_sha256,
        trained_until=material.trained_until,
        registered_at=lab.clock.now(),
        registered_by=order.by,
        origin=order.origin,
    )
    if number not in {known.number for known in lab.ledger.versions()}:
        lab.ledger.add_version(version, order.by)
    return lab.ledger.version(number)


def train(order: TrainModel, lab: Lab) -> ModelVersion:
    """The steps in order, for those who want no orchestration."""
    material = gather(order, lab)
    return register(order, material, make(material, lab), lab)


def scorer_of(lab: Lab, number: int) -> Scorer:
    """The scorer of a registered version."""
    return Scorer.from_bytes(lab.packages.get(lab.ledger.version(number).scorer_sha256).scorer)


def champion_number(lab: Lab) -> int | None:
    """The champion's version number; None where nothing was promoted."""
    try:
        return lab.ledger.champion().version
    except NoChampion:
        return None


def probabilities_of(scorer: Scorer, rows: TrainingRows) -> NDArray[np.float64]:
    """What a scorer says about rows, shape (rows,)."""
    if not len(rows):
        return np.empty(0)
    table = model_frame(rows.features, scorer.features)
    return scorer.score(scorer.encode_columns([table[feature.name].to_numpy() for feature in scorer.features]))


def _history(lab: Lab, until: datetime) -> TrainingRows:
    return _history_of(lab, lab.snapshots.latest(before=until).digest, until)


@lru_cache(maxsize=1)
def _history_of(lab: Lab, accepted: str, until: datetime) -> TrainingRows:
    """Gathering, measuring and judging one order read the same history; it is computed for the first of them.

    It is read as of the snapshot that the lineage names: what was accepted since then does not change what an old order gives.
    """
    snapshot = next(one for one in lab.snapshots.all() if one.digest == accepted)
    tables = {schema.name: lab.snapshots.read(schema.name, snapshot) for schema in lab.use_case.tables}
    return lab.use_case.history(tables, until)


def _flipped(rows: TrainingRows, share: float, seed: int) -> TrainingRows:
    """The rows with a share of the labels turned round; which ones depends on keys and seed, not on the order of rows."""
    order = np.argsort(rows.keys, kind="stable")
    chosen = order[np.random.default_rng(seed).random(len(rows)) < share]
    labels = rows.labels.copy()
    labels[chosen] = ~labels[chosen]
    return TrainingRows(rows.features, labels, rows.keys, rows.moments)


def _git_commit() -> str:
    """Of the checkout; an image has none, and a file that says from which it was built."""
    told = Path(__file__).parents[3] / "COMMIT"
    if told.is_file():
        return told.read_text(encoding="utf-8").strip()
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, cwd=Path(__file__).parent, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()


def _lock_sha256() -> str:
    lock = Path(__file__).parents[3] / "requirements" / "lock.txt"
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else "unknown"
