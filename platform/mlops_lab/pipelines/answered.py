"""What the bus is told of an answered request: ids, never features."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mlops_lab.events import Message

ANSWERED = "PredictionsAnswered"
_LONGEST_TRACE = 200


def answered(frame: Mapping[str, Any]) -> Message | None:
    """The event of one frame of kind `predictions`; None for a probe.

    Its id is that of the first prediction, so the same answers are one event, however often and from wherever they are told.
    """
    rows = frame["rows"]
    if frame["purpose"] != "live" or not rows:
        return None
    trace = frame.get("trace")
    return Message(
        ANSWERED,
        _moment(rows[0]["moment"]) if len(rows) == 1 else max(_moment(row["moment"]) for row in rows),
        frame["model"],
        {
            "predictions": [row["prediction_id"] for row in rows],
            "model_version": frame["model_version"],
            "variant": frame["variant"],
            "purpose": frame["purpose"],
            "request_id": frame["request_id"],
        },
        id=f"answered-{rows[0]['prediction_id']}",
        partition_key=frame["request_id"],
        traceparent=trace if isinstance(trace, str) and len(trace) <= _LONGEST_TRACE else "",
    )


def _moment(text: Any) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        import pandas as pd  # the table took it for a moment, so it is one; our own writer never gets here

        at = pd.to_datetime(text, utc=True, format="ISO8601").to_pydatetime()
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
