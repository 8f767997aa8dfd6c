"""A service whose spans are kept in a list, and calls that belong to a trace."""

import json
from pathlib import Path

from mlops_lab.serving.call import PREDICT, Call
from mlops_lab.serving.prediction_log import Durability
from mlops_lab.serving.service import Service
from mlops_lab.telemetry import Span, Spans, TraceContext
from serving_builders import Replica, a_replica, an_item

CALLER = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
UNSAMPLED = CALLER.traceparent[:-1] + "0"


class Recorded(Spans):
    """Spans that are kept in a list; every request without a trace begins one, unless told otherwise."""

    def __init__(self, sample: float = 1.0) -> None:
        self.ended: list[Span] = []
        super().__init__(self.ended.append, sample)

    def named(self, name: str) -> Span:
        (span,) = (each for each in self.ended if each.name == name)
        return span


def a_service(directory: Path, spans: Spans, durability: Durability = "process") -> tuple[Replica, Service]:
    replica = a_replica(directory, 0.3, durability=durability, spans=spans)
    replica.follow()
    return replica, Service(replica.parts)


def a_question(traceparent: str = "", place: str = "gate", **headers: str) -> Call:
    named = {"content-type": "application/json", **headers} | ({"traceparent": traceparent} if traceparent else {})
    return Call(PREDICT, [(name.encode(), value.encode()) for name, value in named.items()], json.dumps(an_item(place)).encode())
