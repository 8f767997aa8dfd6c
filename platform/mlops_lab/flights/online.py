"""The feature state of the service: facts as they happen, read as of any moment. Standard library only.

Each list keeps timestamped components and the arithmetic is finished when it is read, so that a window never goes stale for want of
events, and a fact that is already here but lies behind the question's moment is not used.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from mlops_lab.events import Message
from mlops_lab.features import Ask, FeatureRow
from mlops_lab.flights.facts import ARRIVED, DEPARTED, LISTED, OBSERVED
from mlops_lab.flights.transform import (
    AIRCRAFT_MAX_AGE_S,
    ARRIVALS_WINDOW_S,
    DEPARTURES_WINDOW_S,
    WEATHER,
    WEATHER_MAX_AGE_S,
    Known,
    Mean,
    features_of,
)

KEPT_S = 36 * 3600
"""How much of the past is kept, behind the newest fact of a list: the longest window plus the lateness that is allowed."""


class FlightState:
    """Implements `OnlineFeatures` for flights."""

    def __init__(self) -> None:
        self._by_origin: dict[str, Recent] = defaultdict(Recent)
        self._by_carrier: dict[tuple[str, str], Recent] = defaultdict(Recent)
        self._by_destination: dict[str, Recent] = defaultdict(Recent)
        self._by_aircraft: dict[str, Recent] = defaultdict(Recent)
        self._weather: dict[str, Recent] = defaultdict(Recent)
        self._register: dict[str, Listing] = {}

    def apply(self, messages: Iterable[Message]) -> None:
        for message in messages:
            data, at = message.data, int(message.at.timestamp())
            if message.type == DEPARTED:
                flight, delay, tail = data["flight_id"], data["delay_min"], data["tail_number"]
                self._by_origin[message.subject].add((at, 0, delay, flight))
                self._by_carrier[message.subject, data["carrier"]].add((at, 0, delay, flight))
                if tail:
                    self._by_aircraft[tail].add((at, 0, delay, flight))
            elif message.type == ARRIVED:
                flight, delay, tail = data["flight_id"], data["delay_min"], data["tail_number"]
                self._by_destination[message.subject].add((at, 1, delay, flight))
                if tail:
                    self._by_aircraft[tail].add((at, 1, delay, flight))
            elif message.type == OBSERVED:
                self._weather[message.subject].add((at, 0, 0, tuple(data[name] for name in WEATHER)))
            elif message.type == LISTED:
                listed = (at, data["seats"], data["built"])
                if later(listed, self._register.get(message.subject)):
                    self._register[message.subject] = listed

    def read(self, ask: Ask) -> FeatureRow:
        now, fields = int(ask.moment.timestamp()), ask.fields
        carrier, origin, destination, tail = fields["carrier"], fields["origin"], fields["destination"], fields.get("tail_number") or ""
        _, seats, built = self._register.get(tail, _UNLISTED)
        weather = self._newest(self._weather, origin, now, WEATHER_MAX_AGE_S)
        aircraft = self._newest(self._by_aircraft, tail, now, AIRCRAFT_MAX_AGE_S)
        by_origin, origin_age = self._mean(self._by_origin, origin, now, DEPARTURES_WINDOW_S)
        by_carrier, _ = self._mean(self._by_carrier, (origin, carrier), now, DEPARTURES_WINDOW_S)
        by_destination, destination_age = self._mean(self._by_destination, destination, now, ARRIVALS_WINDOW_S)
        known = Known(
            seats=seats,
            built=built,
            weather=weather[3] if weather else None,
            origin=by_origin,
            carrier=by_carrier,
            destination=by_destination,
            aircraft_delay=aircraft[2] if aircraft else None,
        )
        values = features_of(fields["scheduled_departure"], carrier, origin, destination, fields.get("distance_miles"), known)
        ages = {
            "weather": float(now - weather[0]) if weather else None,
            "origin_departures": origin_age,
            "destination_arrivals": destination_age,
            "aircraft": float(now - aircraft[0]) if aircraft else None,
        }
        return FeatureRow(values, ages)

    def read_many(self, asks: Sequence[Ask]) -> Sequence[FeatureRow]:
        return list(map(self.read, asks))

    @staticmethod
    def _mean(lists: "dict[Any, Recent]", key: Any, now: int, window_s: int) -> tuple[Mean, float | None]:
        recent = lists.get(key)
        if recent is None:
            return _NOTHING, None
        total, count, newest = recent.sum_of(now - window_s, now)
        return (Mean(total, count), float(now - newest)) if count else (_NOTHING, None)

    @staticmethod
    def _newest(lists: "dict[Any, Recent]", key: Any, now: int, max_age_s: int) -> "_Fact | None":
        recent = lists.get(key)
        return recent.newest(now - max_age_s, now) if recent else None


_NOTHING = Mean(0, 0)

Listing = tuple[int, float | None, float | None]
"""Second, seats and year built of an aircraft."""

_UNLISTED: Listing = (0, None, None)

_Fact = tuple[int, int, int, Any]
"""Second, rank among facts of the same second, delay in minutes, what it is about (a flight, or the observed values)."""


class Recent:
    """Facts of one key in order of event time, without repeats, the old ones forgotten.

    Their seconds and the running totals of their delays are kept beside them: every request asks for sums over windows, and a window is
    then two searches and one difference, however many facts are in it. Delays are whole minutes, so the difference is exact.
    """

    __slots__ = ("_facts", "_seconds", "_totals")

    def __init__(self) -> None:
        self._facts: list[_Fact] = []
        self._seconds: list[int] = []
        self._totals: list[int] = [0]  # one more than facts: the total before each, and the total of all

    def add(self, fact: _Fact) -> bool:
        """Take a fact in; False where it was in already."""
        facts, seconds, totals = self._facts, self._seconds, self._totals
        if not facts or fact[:3] > facts[-1][:3]:
            facts.append(fact)
            seconds.append(fact[0])
            totals.append(totals[-1] + fact[2])
        else:
            # Equal facts stand side by side: the same flight twice is one departure, two flights of one minute are two.
            place = at = bisect_right(facts, fact[:3], key=_order)
            while at and facts[at - 1][:3] == fact[:3]:
                at -= 1
                if facts[at][3] == fact[3]:
                    return False
            facts.insert(place, fact)
            seconds.insert(place, fact[0])
            totals[place + 1 :] = [totals[place] + fact[2], *(total + fact[2] for total in totals[place + 1 :])]
        if len(facts) >= 64 and seconds[len(facts) // 2] < seconds[-1] - KEPT_S:
            old = bisect_right(seconds, seconds[-1] - KEPT_S)
            del facts[:old], seconds[:old], totals[:old]
        return True

    def last(self, span_s: int) -> tuple[int, Sequence[_Fact]]:
        """The facts of the last so many seconds before the newest one, and the second behind which they are all of them."""
        since = max(0, self._seconds[-1] - span_s)
        return since, self._facts[bisect_right(self._seconds, since) :]

    def sum_of(self, after: int, until: int) -> tuple[int, int, int]:
        """Of the facts in (after, until]: the sum of their delays, how many they are, and the second of the newest (0 for none)."""
        seconds = self._seconds
        end = bisect_right(seconds, until)
        begin = bisect_right(seconds, after, 0, end)
        return (self._totals[end] - self._totals[begin], end - begin, seconds[end - 1]) if end > begin else (0, 0, 0)

    def newest(self, after: int, until: int) -> _Fact | None:
        """The last fact in (after, until], the higher rank winning a tie."""
        at = bisect_right(self._seconds, until)
        if at and self._seconds[at - 1] > after:
            return self._facts[at - 1]
        return None


def _order(fact: _Fact) -> tuple[int, int, int]:
    return fact[:3]


def later(listed: Listing, former: Listing | None) -> bool:
    """Whether a listing takes the place of another: the later one does, whichever came first."""
    return former is None or _rank(listed) > _rank(former)


def _rank(listed: Listing) -> tuple[float, ...]:
    return tuple(-1.0 if value is None else value for value in listed)
