"""Frames of the prediction log as a replica that answers about parcels writes them, and what became of them everywhere."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_lab.data.shadow import SHADOW_SCORES
from mlops_lab.data.shipping import SET_ASIDE
from mlops_lab.events import ANSWERS, Message
from mlops_lab.pipelines.ship import ship
from mlops_lab.registry.ledger import INCIDENT
from mlops_lab.serving.prediction_log import PredictionLog
from parcel_builders import MODEL
from pipeline_builders import SmallLab

AT = "2013-04-01T12:00:00Z"
LATER = "2013-04-01T12:00:00.500000Z"
WALL = "2026-01-01T00:00:00Z"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def answers(*numbers: int, **different: Any) -> dict[str, Any]:
    rows = [
        {
            "prediction_id": f"p{n}",
            "entity": f"e{n}",
            "moment": AT if n % 2 else LATER,
            "features": ["north", 1.5, 0.25],
            "ages_s": {},
            "probability": 0.5,
        }
        for n in numbers
    ]
    frame = {
        "kind": "predictions",
        "request_id": f"r{numbers[0]}",
        "model": MODEL,
        "model_version": 3,
        "scorer_sha256": "s",
        "assignment": 7,
        "variant": "champion",
        "purpose": "live",
        "answered_at": WALL,
        "rows": rows,
    }
    return frame | different


def feedback(*numbers: int) -> dict[str, Any]:
    items = [{"event_id": f"v{n}", "prediction_id": f"p{n}", "revision": 0, "at": AT, "outcome": {"hours_late": 1.0}} for n in numbers]
    return {"kind": "feedback", "request_id": "r", "received_at": WALL, "items": items}


def shadow(*numbers: int) -> dict[str, Any]:
    rows = [{"prediction_id": f"p{n}", "probability": 0.25, "champion_probability": 0.5} for n in numbers]
    shared = {"model": MODEL, "model_version": 4, "scorer_sha256": "t", "assignment": 8, "scored_at": WALL, "took_us": 40.0}
    return {"kind": "shadow", **shared, "rows": rows}


def incident(number: int = 0, **different: Any) -> dict[str, Any]:
    told = {
        "at": WALL,
        "what": "package_refused",
        "subject": f"{MODEL}/{number}",
        "why": "the signature is nobody's",
        "digests": {"scorer": "ab"},
    }
    return {"kind": "incident", **told, **different}


def mixed(number: int) -> list[dict[str, Any]]:
    """Six frames of all kinds, one of them of another release; each number gives others."""
    n = number * 10
    return [
        answers(n, n + 1, trace=TRACE),
        feedback(n, n + 1),
        answers(n + 2, variant="canary", model_version=4),
        shadow(n, n + 1),
        incident(n),
        {"kind": "weather", "number": n},
    ]


def write(home: Path, *frames: Mapping[str, Any], replica: str = "replica-1", segment_bytes: int = 2_000) -> Path:
    """Append frames to a replica's log; returns its folder."""
    folder = home / "serving" / replica / "log"
    log = PredictionLog(folder, segment_bytes=segment_bytes)
    for frame in frames:
        log.append(frame)
    log.close()
    return folder


def write_mixed(lab: SmallLab, numbers: range, **how: Any) -> Path:
    return write(lab.home, *(frame for number in numbers for frame in mixed(number)), **how)


def write_and_ship(lab: SmallLab, *frames: dict[str, Any], **how: Any) -> Path:
    folder = write(lab.home, *frames, **how)
    ship(lab)
    return folder


@dataclass(frozen=True)
class Effects:
    """Every effect, sorted, with its repetitions."""

    predictions: list[str]
    outcomes: list[str]
    shadows: list[str]
    aside: list[int]
    told: list[str]
    incidents: list[str]


def incidents(lab: SmallLab, what: str) -> list[Any]:
    return [fact for fact in lab.ledger.facts(INCIDENT) if fact.body["what"] == what]


def told(lab: SmallLab) -> list[Message]:
    return [delivery.message for delivery in lab.bus.read(ANSWERS, 0, limit=1_000_000)]


def effects(lab: SmallLab) -> Effects:
    lab.shipper  # noqa: B018  declares the tables
    read = lab.tables.read
    return Effects(
        predictions=sorted(read("predictions")["prediction_id"]),
        outcomes=sorted(read("outcomes")["event_id"]),
        shadows=sorted(read(SHADOW_SCORES)["prediction_id"]),
        aside=sorted(frame["number"] for frame in map(json.loads, read(SET_ASIDE)["frame"]) if "number" in frame),
        told=sorted(identifier for message in told(lab) for identifier in message.data["predictions"]),
        incidents=sorted(fact.body["subject"] for fact in lab.ledger.facts(INCIDENT) if fact.body["what"] == "package_refused"),
    )


def expected(numbers: range) -> Effects:
    """Of `mixed` for each number."""
    tens = [number * 10 for number in numbers]
    return Effects(
        predictions=sorted(f"p{n + i}" for n in tens for i in range(3)),
        outcomes=sorted(f"v{n + i}" for n in tens for i in range(2)),
        shadows=sorted(f"p{n + i}" for n in tens for i in range(2)),
        aside=tens,
        told=sorted(f"p{n + i}" for n in tens for i in range(3)),
        incidents=sorted(f"{MODEL}/{n}" for n in tens),
    )
