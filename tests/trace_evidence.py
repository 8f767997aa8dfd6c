"""What a collector wrote down: does one trace run from a request to its outcome, and one chain from a decision to the swap?

As a program: `python trace_evidence.py FILE...` prints what it found and leaves with 1 where either is missing. The files hold OTLP as
lines of JSON: what the collector's file exporter writes, and the platform itself under LAB_TELEMETRY__FOLDER.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Seen:
    """One span, by whoever has it."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, str]
    start_ns: int
    end_ns: int


@dataclass(frozen=True)
class Chain:
    """From a decision to the swap it led to."""

    window: str
    decided: Seen
    ordered: Seen
    trained: Seen
    promoted: Seen
    swapped: Seen


def spans_in(files: Iterable[Path]) -> list[Seen]:
    """All spans of some files; a line that is cut off by the end of its file is left out."""
    return [span for file in files if file.exists() for line in file.read_text().splitlines() for span in _spans(line)]


def requests_to_outcomes(spans: Sequence[Seen]) -> list[str]:
    """The traces that run from a request through the prediction log and the bus to the outcome of its prediction."""
    found = []
    for request in (span for span in spans if span.name == "POST /v1/predict"):
        below = [span for span in spans if (span.trace, span.parent) == (request.trace, request.id)]
        names = {span.name for span in below}
        prediction = request.attributes.get("lab.prediction_id")
        outcome = any(span.name == "take in outcome" and span.attributes["lab.prediction_id"] == prediction for span in below)
        if outcome and {"write prediction log", "publish PredictionsAnswered"} <= names:
            found.append(request.trace)
    return found


def decisions_to_swaps(spans: Sequence[Seen]) -> list[Chain]:
    """The chains from the decision about a window over the order, the training and the promotion to the swap in a replica."""
    by_place = {(span.trace, span.id): span for span in spans}
    found = []
    for swapped in (span for span in spans if span.name == "swap model"):
        for link in swapped.links:
            promoted = by_place.get(link)
            if promoted is None or promoted.name != "promote version":
                continue
            for trained in (span for span in spans if span.trace == promoted.trace and span.name == "carry out TrainModel"):
                for ordered in (by_place[each] for each in trained.links if each in by_place):
                    decided = by_place.get((ordered.trace, ordered.parent))
                    if decided is not None and (ordered.name, decided.name) == ("follow SkillLost", "watch window"):
                        found.append(Chain(decided.attributes["lab.window"], decided, ordered, trained, promoted, swapped))
    return found


def _spans(line: str) -> Iterator[Seen]:
    try:
        told = json.loads(line)
    except ValueError:
        return
    for resource in told.get("resourceSpans", []):
        service = _values(resource["resource"]).get("service.name", "")
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                yield Seen(
                    service,
                    span["name"],
                    span["traceId"],
                    span["spanId"],
                    span.get("parentSpanId", ""),
                    tuple((link["traceId"], link["spanId"]) for link in span.get("links", [])),
                    _values(span),
                    int(span["startTimeUnixNano"]),
                    int(span["endTimeUnixNano"]),
                )


def _values(holder: dict[str, Any]) -> dict[str, str]:
    return {each["key"]: str(next(iter(each["value"].values()))) for each in holder.get("attributes", [])}


def main() -> int:
    spans = spans_in(map(Path, sys.argv[1:]))
    requests, chains = requests_to_outcomes(spans), decisions_to_swaps(spans)
    print(f"{len(spans)} spans of {', '.join(sorted({span.service for span in spans}))}")
    print(f"{len(requests)} traces from request to outcome{', such as ' + requests[0] if requests else ''}")
    for chain in chains:
        seconds = (chain.swapped.end_ns - chain.decided.end_ns) / 1e9
        print(f"{chain.window}: from the decision over order, training and promotion to the swap in {seconds:.1f} s")
    return 0 if requests and chains else 1


if __name__ == "__main__":
    sys.exit(main())
