"""What is done about features of flights that are stale or absent: nothing is refused, what is too old is missing, and answers say so."""

from mlops_lab.features.policy import FeaturePolicy, SourceRule
from mlops_lab.flights.transform import AIRCRAFT_MAX_AGE_S, ARRIVALS_WINDOW_S, DEPARTURES_WINDOW_S, WEATHER, WEATHER_MAX_AGE_S

POLICY = FeaturePolicy(
    sources={
        "weather": SourceRule(WEATHER, WEATHER_MAX_AGE_S),
        "origin_departures": SourceRule(("origin_delay_3h_min", "carrier_delay_3h_min"), DEPARTURES_WINDOW_S),
        "destination_arrivals": SourceRule(("destination_delay_6h_min",), ARRIVALS_WINDOW_S),
        "aircraft": SourceRule(("aircraft_delay_min",), AIRCRAFT_MAX_AGE_S),
    },
    behind_s=4200,  # weather comes every hour, and facts may be ten minutes late: in all of 2013 no question was further ahead
)
