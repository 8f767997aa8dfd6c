"""Drift: how far inputs and answers are from their reference. It is a signal; skill decides."""

import json

import numpy as np
import pandas as pd
import pytest

from mlops_lab.errors import EvidenceMissing, NotEnoughData
from mlops_lab.features import Feature, Kind
from mlops_lab.monitoring import ColumnDrift, Drift, Method, Watched, plan
from mlops_lab.monitoring.drift import column_drift, jensen_shannon_distance, kolmogorov_smirnov, population_stability_index
from mlops_lab.monitoring.in_memory import InMemoryDrift
from mlops_lab.monitoring.report import drift_sentence, drift_to_record

COLUMNS = (Watched("heat", Kind.NUMBER, Method.PSI, 0.2), Watched("place", Kind.CATEGORY, Method.JENSEN_SHANNON, 0.1))
ANSWER = Watched("answer", Kind.NUMBER, Method.PSI, 0.2)


def a_table(rows: int = 3_000, seed: int = 1, warmer: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    places = rng.choice(["north", "south", "east"], size=rows, p=[0.5, 0.3, 0.2])
    return pd.DataFrame({"heat": rng.normal(10 + warmer, 3, rows), "place": places, "answer": rng.beta(2, 6, rows)})


def compare(reference: pd.DataFrame, current: pd.DataFrame, seed: int = 7) -> Drift:
    return InMemoryDrift().compare(reference, current, COLUMNS, ANSWER, seed)


def test_another_draw_of_the_same_world_has_not_drifted() -> None:
    found = compare(a_table(seed=1), a_table(seed=2))

    assert found.drifted == ()
    assert found.share == 0
    assert not found.prediction.drifted
    assert drift_sentence(found) == "0 of 2 inputs moved"


def test_a_warmer_world_is_named() -> None:
    found = compare(a_table(), a_table(seed=2, warmer=4))

    assert found.drifted == ("heat",)
    assert found.share == 0.5
    assert drift_sentence(found).startswith("1 of 2 inputs moved (heat ")


def test_a_new_category_and_a_shifted_mix_are_seen() -> None:
    new = a_table(seed=2)
    new.loc[new.index[:600], "place"] = "west"

    assert compare(a_table(), new).drifted == ("place",)


@pytest.mark.parametrize("column", ["heat", "place"])
def test_a_null_burst_is_drift_although_distances_drop_what_is_missing(column: str) -> None:
    burst = a_table(seed=2)
    burst.loc[burst.index[::4], column] = None

    assert compare(a_table(), burst).drifted == (column,)


def test_a_column_that_fell_silent_is_not_measured_and_drifted() -> None:
    silent = a_table(seed=2).assign(heat=np.nan)

    found = compare(a_table(), silent)

    assert found.columns[0].value is None
    assert found.drifted == ("heat",)
    assert found.unmeasured == ("heat",)
    assert "heat silent" in drift_sentence(found)


def test_infinite_numbers_count_as_missing() -> None:
    broken = a_table(seed=2)
    broken.loc[broken.index[::4], "heat"] = np.inf

    assert compare(a_table(), broken).columns[0].missing == 0.25


def test_a_large_table_is_sampled_from_its_seed() -> None:
    reference, current = a_table(20_000), a_table(8_000, seed=2)

    found = compare(reference, current)

    assert (found.rows, found.reference_rows) == (5_000, 5_000)
    assert found == compare(reference, current)
    assert found != compare(reference, current, seed=8)


def test_the_record_is_plain_json() -> None:
    record = drift_to_record(compare(a_table(), a_table(seed=2).assign(heat=np.nan)))

    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_an_empty_or_strange_table_is_refused() -> None:
    with pytest.raises(NotEnoughData):
        compare(a_table(), a_table().iloc[:0])
    with pytest.raises(EvidenceMissing, match="no column heat"):
        compare(a_table(), a_table().drop(columns="heat"))
    with pytest.raises(EvidenceMissing, match="heat holds something else"):
        compare(a_table(), a_table().assign(heat="warm"))
    with pytest.raises(EvidenceMissing, match="No input column"):
        InMemoryDrift().compare(a_table(), a_table(), (), ANSWER, 7)


def test_a_distance_that_is_no_number_is_no_distance() -> None:
    assert column_drift(ANSWER, float("nan"), 0, 0).value is None
    by_hand = ColumnDrift("answer", Method.PSI, float("nan"), 0.2, False, 0, 0)
    assert Drift((by_hand,), by_hand, 1, 1).unmeasured == ("answer", "answer")


def test_psi_is_siddiqi_s() -> None:
    before, now = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.3, 0.3])

    assert population_stability_index(before, now) == pytest.approx(-0.1 * np.log(0.8) + 0.1 * np.log(1.5))
    assert population_stability_index(before, before) == 0
    with pytest.raises(EvidenceMissing):
        population_stability_index(before, now[:2])


def test_jensen_shannon_goes_from_nothing_to_everything() -> None:
    assert jensen_shannon_distance(np.array([0.5, 0.5]), np.array([0.5, 0.5])) == 0
    assert jensen_shannon_distance(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(np.sqrt(np.log(2)))


def test_kolmogorov_smirnov_is_the_largest_gap() -> None:
    assert kolmogorov_smirnov(np.array([1.0, 2, 3, 4]), np.array([3.0, 4, 5, 6])) == 0.5
    assert kolmogorov_smirnov(np.array([1.0, 2]), np.array([3.0])) == 1
    with pytest.raises(EvidenceMissing):
        kolmogorov_smirnov(np.array([]), np.array([1.0]))


def test_the_plan_names_a_method_for_every_feature() -> None:
    """Left unnamed, Evidently picks one by the number of rows."""
    features = [Feature("heat", Kind.NUMBER, "°C", "air"), Feature("place", Kind.CATEGORY, "", "where")]

    assert plan(features) == COLUMNS
