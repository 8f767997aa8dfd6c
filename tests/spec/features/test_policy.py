"""What is done about features that are stale or absent: each source has a maximum age, and the use case says whether there is an answer
without it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops_lab.errors import FeaturesRefused
from mlops_lab.events import OBSERVATIONS
from mlops_lab.features import Feature, Kind
from mlops_lab.features.policy import ABSENT, FRESH, STALE, FeaturePolicy, SourceRule
from mlops_lab.features.view import Ask, FeatureRow
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.serving.answered import Answered, Question
from serving_builders import NOON, Replica, a_count, a_replica, an_item, ask

FEATURES = tuple(Feature(name, Kind.NUMBER, "", "") for name in ("wind", "rain", "delay", "hour"))
RULES = {"weather": SourceRule(("wind", "rain"), 3600), "traffic": SourceRule(("delay",), 600)}
ASK = Ask("e", NOON, {})


def applied(
    ages_s: Mapping[str, float | None],
    watermark: datetime | None = NOON,
    rules: Mapping[str, SourceRule] = RULES,
    refuse_stale: bool = False,
) -> tuple[FeatureRow, str]:
    """What becomes of one row; the stream may be ten minutes behind."""
    policy = FeaturePolicy(rules, behind_s=600, refuse_stale=refuse_stale)
    fresh_until = policy.fresh_until(None if watermark is None else int(watermark.timestamp()))
    rows, states = policy.enforced_on(FEATURES).applied([ASK], [FeatureRow((1.0, 2.0, 3.0, 12.0), ages_s)], fresh_until)
    return rows[0], states[0]


def test_what_is_young_enough_is_used_as_it_is() -> None:
    assert applied({"weather": 3600.0, "traffic": 0.0}) == (FeatureRow((1.0, 2.0, 3.0, 12.0), {"weather": 3600.0, "traffic": 0.0}), FRESH)


def test_what_is_too_old_is_missing_and_so_is_its_age() -> None:
    row, state = applied({"weather": 3601.0, "traffic": 30.0})

    assert row == FeatureRow((None, None, 3.0, 12.0), {"weather": None, "traffic": 30.0})
    assert state == FRESH


@pytest.mark.parametrize("age_s", [None, 601.0])
def test_without_a_source_that_is_required_there_is_no_answer(age_s: float | None) -> None:
    rules = RULES | {"traffic": SourceRule(("delay",), 600, required=True)}

    assert applied({"weather": None, "traffic": 600.0}, rules=rules)[0].ages_s["weather"] is None
    with pytest.raises(FeaturesRefused, match="'traffic'"):
        applied({"weather": 0.0, "traffic": age_s}, rules=rules)


@pytest.mark.parametrize(
    ("ages_s", "behind_s", "state"),
    [
        ({"weather": 0.0, "traffic": None}, 600, FRESH),
        ({"weather": 0.0, "traffic": None}, 601, STALE),
        ({"weather": None, "traffic": None}, 600, FRESH),
        ({"weather": None, "traffic": None}, 601, ABSENT),
        ({"weather": 4000.0, "traffic": None}, 601, ABSENT),
    ],
)
def test_the_state_says_what_the_stream_was_worth(ages_s: Mapping[str, float | None], behind_s: float, state: str) -> None:
    assert applied(ages_s, NOON - timedelta(seconds=behind_s))[1] == state


def test_of_a_stream_whose_progress_is_unknown_nothing_is_fresh() -> None:
    assert applied({"weather": 0.0, "traffic": 0.0}, None)[1] == STALE
    assert applied({"weather": None, "traffic": None}, None)[1] == ABSENT


def test_a_use_case_may_refuse_what_is_stale() -> None:
    assert applied({"weather": 0.0, "traffic": 0.0}, NOON, refuse_stale=True)[1] == FRESH
    with pytest.raises(FeaturesRefused, match="600 s behind"):
        applied({"weather": 0.0, "traffic": 0.0}, NOON - timedelta(seconds=601), refuse_stale=True)


def test_a_rule_about_a_feature_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="winds"):
        FeaturePolicy({"weather": SourceRule(("winds",), 1)}, 0).enforced_on(FEATURES)


def test_the_policy_of_flights_has_a_rule_for_each_source_and_for_each_feature_that_comes_from_facts() -> None:
    use_case = FlightsOnline()
    row = use_case.online().read(Ask("f", NOON, {"scheduled_departure": NOON, "carrier": "UA", "origin": "EWR", "destination": "IAH"}))
    ruled = {name for rule in use_case.policy.sources.values() for name in rule.features}
    asked = {"carrier", "origin", "destination", "minute_of_day", "weekday", "distance_miles"}
    register = {"seats", "aircraft_age_years"}

    assert use_case.policy.sources.keys() == row.ages_s.keys()
    assert ruled == {feature.name for feature in use_case.features} - asked - register
    use_case.policy.enforced_on(use_case.features)


class TestAnswers:
    def answer(self, replica: Replica, at: datetime = NOON) -> Answered | Exception:
        (result,) = replica.parts.predictor.answer([Question([ask(an_item(at=f"{at:%Y-%m-%dT%H:%M:%SZ}"))], "r")])
        return result

    def test_say_fresh_stale_or_absent(self, tmp_path: Path) -> None:
        """The queue's stream may be an hour behind; facts may be ten minutes late."""
        replica = a_replica(tmp_path)
        replica.follow()
        states = []
        for minutes in (0, 50, 51, 24 * 60, 24 * 60 + 1):
            result = self.answer(replica, NOON + timedelta(minutes=minutes))
            assert isinstance(result, Answered)
            states.append(result.answers[0]["feature_state"])
            if minutes == 0:
                replica.bus.publish(OBSERVATIONS, [a_count(8)])
        assert states == [ABSENT, FRESH, STALE, STALE, ABSENT]

    def test_a_fact_from_the_future_makes_nothing_fresh_and_nothing_old(self, tmp_path: Path) -> None:
        replica = a_replica(tmp_path)
        replica.follow()
        replica.bus.publish(OBSERVATIONS, [a_count(8), a_count(9, datetime.now(UTC) + timedelta(days=1), name="tomorrow")])

        result = self.answer(replica, NOON + timedelta(minutes=51))

        assert isinstance(result, Answered)
        assert (result.answers[0]["feature_state"], result.answers[0]["feature_ages_s"]) == (STALE, {"counts": 3060.0})
