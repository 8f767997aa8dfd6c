"""What is done about features that are stale or absent. A use case declares it: a rule per source, and one for the stream they come from.

Three states, one per answered row, say what the stream was worth to it. They are in the answer, in the prediction log, and counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mlops_lab.errors import FeaturesRefused
from mlops_lab.features.view import Ask, Feature, FeatureRow

FRESH = "fresh"
"""The stream had reached the question's moment, but for what the policy allows it to be behind."""
STALE = "stale"
"""It had not: what happened last may be missing. What is there was used."""
ABSENT = "absent"
"""Nothing of the stream was known: the store is down or empty, or nothing of what it had was young enough."""
STATES = (FRESH, STALE, ABSENT)


@dataclass(frozen=True, slots=True)
class SourceRule:
    """What is done about one source, a key of `FeatureRow.ages_s`.

    Attributes:
        features: What is read from it, by name.
        max_age_s: Event time. What is older is not used: its features are missing, and so is its age.
        required: Without it there is no answer: 503. Otherwise its features are missing, which the model has learned to live with.
    """

    features: tuple[str, ...]
    max_age_s: float
    required: bool = False


@dataclass(frozen=True, slots=True)
class FeaturePolicy:
    """The rules of a use case.

    Attributes:
        sources: By name; all of `FeatureRow.ages_s`.
        behind_s: How far a question's moment may lie ahead of the stream's watermark, and its features still count as fresh.
        refuse_stale: Whether stale features are no answer: 503. Otherwise what is there is used, and the answer says so.
    """

    sources: Mapping[str, SourceRule]
    behind_s: float
    refuse_stale: bool = False

    def fresh_until(self, watermark_s: int | None) -> datetime:
        """The last moment whose features are fresh, given how far the stream is in; before all moments where that is unknown."""
        return _NEVER if watermark_s is None else _EPOCH + timedelta(seconds=watermark_s + self.behind_s)

    def enforced_on(self, features: Sequence[Feature]) -> "EnforcedPolicy":
        """The policy, ready to be applied to rows of these features. Raises ValueError for a rule about one that is not among them."""
        return EnforcedPolicy(self, features)


class EnforcedPolicy:
    """Applies a policy to rows. On the path of each answer, so what can be known before is."""

    def __init__(self, policy: FeaturePolicy, features: Sequence[Feature]) -> None:
        names = [feature.name for feature in features]
        self.policy = policy
        self._known: tuple[int | None, datetime] = (None, _NEVER)
        self._rules = [
            (source, rule.max_age_s, rule.required, frozenset(names.index(name) for name in rule.features))
            for source, rule in policy.sources.items()
        ]

    def applied(self, asks: Sequence[Ask], rows: Sequence[FeatureRow], fresh_until: datetime) -> tuple[list[FeatureRow], list[str]]:
        """The rows of one request as they may be used, and their states.

        Raises:
            FeaturesRefused: The policy wants no answer from one of them.
        """
        found: list[FeatureRow] = []
        states: list[str] = []
        for ask, row in zip(asks, rows, strict=True):
            ages_s = row.ages_s
            for source, max_age_s, required, places in self._rules:
                age_s = ages_s[source]
                if age_s is None or age_s > max_age_s:
                    if required:
                        raise FeaturesRefused.without(source, max_age_s)
                    if age_s is not None:
                        values = tuple(None if place in places else value for place, value in enumerate(row.values))
                        row = FeatureRow(values, ages_s := {**ages_s, source: None})
            if ask.moment <= fresh_until:
                states.append(FRESH)
            elif self.policy.refuse_stale:
                raise FeaturesRefused.stale(self.policy.behind_s)
            else:
                states.append(ABSENT if all(age_s is None for age_s in ages_s.values()) else STALE)
            found.append(row)
        return found, states

    def fresh_until(self, watermark_s: int | None) -> datetime:
        """See `FeaturePolicy.fresh_until`."""
        if watermark_s != self._known[0]:
            self._known = (watermark_s, self.policy.fresh_until(watermark_s))
        return self._known[1]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER = datetime.min.replace(tzinfo=UTC)
