"""The real Evidently beside our arithmetic, on the same arrays: the same numbers, and a page when somebody asks for one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlops_lab.errors import EvidenceMissing, NotEnoughData
from mlops_lab.features import Kind
from mlops_lab.monitoring import ColumnDrift, Drift, Method, Watched
from mlops_lab.monitoring.in_memory import InMemoryDrift
from mlops_lab.monitoring.on_evidently import EvidentlyDrift

ANSWER = Watched("answer", Kind.NUMBER, Method.PSI, 0.2)
NUMBERS = ("smooth", "skewed", "hour", "weekday", "gappy", "silent", "constant", "flag")
CATEGORIES = ("place", "tail", "code")
COLUMNS = (
    *(Watched(name, Kind.NUMBER, Method.PSI, 0.1) for name in NUMBERS),
    *(Watched(name, Kind.CATEGORY, Method.JENSEN_SHANNON, 0.1) for name in CATEGORIES),
)


def a_table(rows: int, seed: int, moved: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    gappy = rng.normal(moved, 1, rows)
    gappy[rng.random(rows) < 0.1 + moved / 10] = np.nan
    return pd.DataFrame(
        {
            "smooth": rng.normal(moved, 1, rows),
            "skewed": rng.exponential(1 + moved, rows),
            "hour": rng.integers(0, 24, rows),
            "weekday": rng.integers(1, 8 + int(2 * moved), rows),
            "gappy": gappy,
            "silent": np.full(rows, np.nan if moved else 1.0),
            "constant": np.zeros(rows),
            "flag": rng.random(rows) < 0.2 + moved / 10,
            "place": rng.choice(np.array(["north", "south", "east", None] + ["west"] * (moved > 0)), rows),
            "tail": [f"N{n}" for n in rng.integers(0, 400 + int(100 * moved), rows)],
            "code": pd.Categorical(rng.choice(["a", "b", "c"], rows, p=[0.9, 0.0999, 0.0001])),
            "answer": rng.beta(2, 6 - moved, rows),
        }
    )


def everything(drift: Drift) -> tuple[ColumnDrift, ...]:
    return (*drift.columns, drift.prediction)


@pytest.mark.parametrize("moved", [0.0, 0.5])
@pytest.mark.parametrize("kind_swapped", [False, True])
def test_twin_and_adapter_agree(moved: float, kind_swapped: bool) -> None:
    """Each column by its method, and again by the other one: same values to nine digits, same verdicts."""
    other = {Method.PSI: Method.JENSEN_SHANNON, Method.JENSEN_SHANNON: Method.PSI}
    columns = tuple(Watched(w.name, w.kind, other[w.method], w.threshold) if kind_swapped else w for w in COLUMNS)
    reference, current = a_table(7_000, seed=1), a_table(6_500, seed=2, moved=moved)

    ours = InMemoryDrift().compare(reference, current, columns, ANSWER, seed=7)
    theirs = EvidentlyDrift().compare(reference, current, columns, ANSWER, seed=7)

    assert (ours.rows, ours.reference_rows, ours.drifted) == (theirs.rows, theirs.reference_rows, theirs.drifted)
    for mine, real in zip(everything(ours), everything(theirs), strict=True):
        assert (mine.name, mine.method, mine.drifted, mine.missing) == (real.name, real.method, real.drifted, real.missing)
        assert (mine.value is None) is (real.value is None)
        assert mine.value is None or mine.value == pytest.approx(real.value, rel=1e-9, abs=1e-12)
    assert (theirs.unmeasured == ("silent",)) is bool(moved)


def test_a_page_is_written_only_when_asked_for_and_has_its_figures(tmp_path: Path) -> None:
    """The unpainted calculation must not take the place of Evidently's own."""
    table = a_table(500, seed=1)
    report = EvidentlyDrift()
    report.compare(table, table, COLUMNS, ANSWER, seed=7)
    assert list(tmp_path.iterdir()) == []

    page = report.page(tmp_path / "drift" / "page.html", table, table, COLUMNS, ANSWER, seed=7).read_text()

    assert "DATA DISTRIBUTION" in page
    assert "Drift in column &#39;smooth&#39;" in page or "Drift in column 'smooth'" in page


def test_what_cannot_be_compared_is_refused() -> None:
    table = a_table(500, seed=1)
    with pytest.raises(NotEnoughData):
        EvidentlyDrift().compare(table, table.iloc[:0], COLUMNS, ANSWER, seed=7)
    with pytest.raises(EvidenceMissing):
        EvidentlyDrift().compare(table, table.drop(columns="tail"), COLUMNS, ANSWER, seed=7)
