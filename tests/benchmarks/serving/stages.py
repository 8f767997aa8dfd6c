"""Where a request's time goes: the functions that answer it, called one after the other in one process, each with its own clock.

As a program: `python -m benchmarks.serving.stages FLIGHTS SCORER ROUNDS`, with LAB_HOME set, prints one line of JSON.
The parts are those that `bootstrap.serve` puts together; only the event loop and the network are absent.
"""

import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any

import httptools
import orjson

from benchmarks.serving.load import request
from mlops_lab.bootstrap import serve
from mlops_lab.scoring.scorer import Scorer
from mlops_lab.serving.contract import check_content_type, parse_predict
from mlops_lab.serving.segments import frame
from mlops_lab.serving.service import Service, ServingParts
from mlops_lab.settings import load_settings

PASSES = 3
"""Over all flights; the first one warms up."""


class _Parsed:
    """What httptools calls, as uvicorn's protocol does."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.url = self.body = b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body


def parts_of_the_service() -> ServingParts:
    """Exactly what the service process runs on."""
    caught: list[ServingParts] = []
    made: Any = serve
    made.create_app = lambda parts, *_, **__: caught.append(parts)
    made.run = lambda *_, **__: None
    serve.serve(load_settings())
    (parts,) = caught
    parts.facts.catch_up()
    parts.follower.start()
    parts.follower.stop()
    return parts


def stages(parts: ServingParts, requests: list[bytes], directory: Path) -> dict[str, float]:
    """Median µs of each stage for one row; and of the whole `Service.predict`, which has validation to encoded answer in it."""
    took: dict[str, list[float]] = {}
    clock = time.perf_counter
    champion = parts.slot.require().champion
    log = os.open(directory / "stages.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    here, there = socket.socketpair()
    service = Service(parts)

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        began = clock()
        found = work()
        took.setdefault(stage, []).append(clock() - began)
        return found

    for turn in range(PASSES):
        if turn == 1:
            took.clear()
        for content in requests:
            parsed = _Parsed()

            def parse(parsed: _Parsed = parsed, content: bytes = content) -> None:
                httptools.HttpRequestParser(parsed).feed_data(content)

            timed("HTTP parse", parse)

            def validate(parsed: _Parsed = parsed) -> Any:
                for name, value in parsed.headers:
                    if name == b"content-type":
                        check_content_type(value)
                return parse_predict(parsed.body, parts.use_case.ask)

            asked = timed("validation", validate)
            timed("new facts", parts.facts.catch_up)
            row = timed("feature read", lambda asked=asked: parts.predictor._online.read(asked.asks[0]))
            probability = timed("score", lambda row=row: champion.scorer.score_one(row.values))
            identifier = os.urandom(12).hex() + "0000"
            answer = {
                "prediction_id": identifier,
                "probability": probability,
                "model_version": champion.version,
                "variant": "champion",
                "feature_ages_s": row.ages_s,
            }
            body = timed("encode answer", lambda answer=answer: orjson.dumps(answer))
            record = {
                "kind": "predictions",
                "request_id": os.urandom(16).hex(),
                "model": champion.model,
                "model_version": champion.version,
                "scorer_sha256": champion.scorer_sha256,
                "assignment": champion.assignment,
                "variant": "champion",
                "purpose": "live",
                "answered_at": parts.clock.now(),
                "rows": [
                    {
                        "prediction_id": identifier,
                        "entity": asked.asks[0].entity,
                        "moment": asked.asks[0].moment.astimezone(UTC),
                        "features": row.values,
                        "ages_s": row.ages_s,
                        "probability": probability,
                    }
                ],
            }
            framed = timed("log frame", lambda record=record: frame(orjson.dumps(record, option=orjson.OPT_UTC_Z)))
            timed("write", lambda framed=framed: os.write(log, framed))
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: %s\r\ncontent-length: %d\r\n\r\n"
            timed("reply", lambda body=body, head=head: here.send(head % (b"r" * 32, len(body)) + body))
            there.recv(65536)
            timed("whole", lambda parsed=parsed: service.predict(parsed.headers, parsed.body))
    os.close(log)
    parts.log.close()
    return {stage: statistics.median(values) * 1e6 for stage, values in took.items()}


def one_row_us(content: bytes, rows: list[Any], rounds: int) -> dict[str, Any]:
    """The scorer alone, on the features of real flights: the mean over all flights, per round."""
    scorer = Scorer.from_bytes(content)
    means = []
    for number in range(rounds + 1):
        began = time.perf_counter()
        for row in rows:
            scorer.score_one(row)
        if number:  # the first one warms up
            means.append((time.perf_counter() - began) / len(rows) * 1e6)
    return {"median": statistics.median(means), "smallest": min(means), "largest": max(means), "rounds": means}


def main() -> int:
    """Measure and print."""
    items, content, rounds = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]).read_bytes(), int(sys.argv[3])
    parts = parts_of_the_service()
    requests = [request("/v1/predict", json.dumps(item).encode()) for item in items]
    rows = [parts.predictor._online.read(parts.use_case.ask(item)).values for item in items]
    scorer_us = one_row_us(content, rows * 4, rounds)
    print(json.dumps({"stages_us": stages(parts, requests, load_settings().home), "scorer_us": scorer_us}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
