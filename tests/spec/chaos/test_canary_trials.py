"""The checker of F15 can fail: each kind of canary has to end as it has to, for its own reason, and no client may notice."""

from dataclasses import replace

import numpy as np
import pytest

from mlops_lab.chaos.canaries import FAILING, HEALTHY, SHIFTED, SLOWER, WANTED, Trials, Tried, check
from mlops_lab.chaos.slower import slowed
from mlops_lab.scoring.scorer import Scorer
from model_builders import a_recipe, some_rows


def thirty(**changed: str | int | None) -> list[Tried]:
    """Thirty trials of each kind that end as they have to."""
    ended = {kind: ("passed", None) if cause is None else ("abort", str(cause)) for kind, cause in WANTED.items()}
    return [
        replace(Tried(kind, n, *ended[kind], "because", 700, 3.0, 0, answered=300, late=0), **changed)  # type: ignore[arg-type]
        for kind in WANTED
        for n in range(30)
    ]


def seen(trials: list[Tried], failed: tuple[str, ...] = ()) -> Trials:
    return Trials(trials, failed, 60_000, 1.5)


def test_thirty_of_each_that_end_well_are_the_promise() -> None:
    found = check(seen(thirty()))

    assert found.held
    assert found.measured.startswith("healthy 30/30 in 3.0 s (at most 3.0); shifted 30/30")


@pytest.mark.parametrize("kind", [HEALTHY, SHIFTED, SLOWER, FAILING])
@pytest.mark.parametrize("ending", [("none", None), ("abort", "no_data"), ("abort", "inconclusive")])
def test_one_of_thirty_may_be_missed_and_not_two(kind: str, ending: tuple[str, str | None]) -> None:
    def spoilt(count: int) -> list[Tried]:
        trials = thirty()
        at = [i for i, each in enumerate(trials) if each.kind == kind][:count]
        return [replace(each, outcome=ending[0], cause=ending[1]) if i in at else each for i, each in enumerate(trials)]

    assert check(seen(spoilt(1))).held
    assert f"{kind}: 28 of 30 ended as they have to" in check(seen(spoilt(2))).broken[0]


def test_of_three_none_may_be_missed_and_none_at_all_proves_nothing() -> None:
    few = [each for each in thirty() if each.version < 3]
    assert check(seen(few)).held
    assert not check(seen([replace(few[0], outcome="abort", cause="scores"), *few[1:]])).held
    assert len(check(seen([])).broken) == 4


def test_what_a_client_notices_breaks_the_promise() -> None:
    assert check(seen(thirty(), ("request x got 500",))).broken == ("request x got 500",)
    assert "answered 7 requests long after its abort" in check(seen(thirty(late=7))).broken[0]
    assert "answered nobody" in check(seen(thirty(answered=0))).broken[0]


def test_a_slower_version_answers_just_the_same() -> None:
    from mlops_lab.training.on_sklearn import fit

    rows = some_rows()
    forest = fit(a_recipe(), rows).forest()

    slower, ratio = slowed(forest, forest, seed=1)

    values = [[*each] for each in rows.features.itertuples(index=False)][:50]
    clean = [[None if isinstance(v, float) and np.isnan(v) else v for v in row] for row in values]
    assert ratio > 1.2
    assert [Scorer(slower, "s").score_one(row) for row in clean] == pytest.approx([Scorer(forest, "f").score_one(row) for row in clean])
