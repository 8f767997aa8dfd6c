"""The topics of the platform and what travels on each."""

OBSERVATIONS = "observations"
"""What happens in the world: departures, arrivals, weather. Keyed by what the online features are keyed by."""

REFERENCES = "references"
"""Slow-moving facts, such as aircraft. Read from the start by whoever needs them; the newest per subject counts."""

CONTROL = "control"
"""What the platform does: facts such as `ModelPromoted` and orders such as `RetrainModel`. Low volume, read by handlers."""

ANSWERS = "answers"
"""What the service answered: one `PredictionsAnswered` per live request, told when it is in the table. Ids, never features."""
