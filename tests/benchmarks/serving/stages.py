"""Where a request's time goes: the real service process with a stopwatch around the functions that answer.

As a program: `python -m benchmarks.serving.stages FILE` serves like `mlops_lab.bootstrap.serve`, and on SIGTERM writes to FILE what each
stage took. Times are a stage's own, without the stages it calls.
"""

import json
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from threading import get_ident
from time import perf_counter
from typing import Any

from mlops_lab.bootstrap import serve

STAGES = (
    ("HTTP parse", "mlops_lab.serving.on_uvicorn_protocol:FastProtocol", "data_received"),
    ("turns of the event loop", "mlops_lab.serving.turns:Turns", "_work"),
    ("headers and validation", "mlops_lab.serving.service:Service", "_question"),
    ("new facts", "mlops_lab.serving.facts:FactStream", "catch_up"),
    ("feature read", "mlops_lab.flights.online:FlightState", "read"),
    ("score", "mlops_lab.scoring.scorer:Scorer", "score_rows"),
    ("ids, answer and record", "mlops_lab.serving.predictor:Predictor", "answer"),
    ("log frame", "mlops_lab.serving.service", "encode"),
    ("encode answer", "mlops_lab.serving.service", "reply_body"),
    ("write to the log", "mlops_lab.serving.prediction_log:PredictionLog", "write"),
    ("metrics", "mlops_lab.serving.service:Service", "settle"),
    ("the rest of the service", "mlops_lab.serving.service:Service", "work"),
    ("reply, with its way into the socket", "mlops_lab.serving.on_uvicorn_protocol:FastProtocol", "send_ready"),
)
"""What it is called, where it lives, and the function; a stage may have several."""

WARM_UP = 1000
"""So many requests are forgotten."""

_REQUESTS = "headers and validation"


class Stopwatch:
    """Own time of nested functions, as far as the thread that made it calls them."""

    def __init__(self) -> None:
        self.took_s: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._inner: list[float] = []
        self._warm = False
        self._thread = get_ident()

    def around(self, owner: Any, name: str, stage: str) -> None:
        """Put the watch around a function. Raises AttributeError where there is none of that name."""
        real: Callable[..., Any] = getattr(owner, name)
        inner, took, calls = self._inner, self.took_s, self.calls

        def timed(*args: Any, **named: Any) -> Any:
            if get_ident() != self._thread:
                return real(*args, **named)
            inner.append(0.0)
            began = perf_counter()
            try:
                return real(*args, **named)
            finally:
                passed = perf_counter() - began
                took[stage] = took.get(stage, 0.0) + passed - inner.pop()
                calls[stage] = calls.get(stage, 0) + 1
                if inner:
                    inner[-1] += passed
                elif not self._warm and calls.get(_REQUESTS, 0) >= WARM_UP:
                    self._warm = True
                    took.clear()
                    calls.clear()

        setattr(owner, name, timed)

    def per_request_us(self) -> dict[str, float]:
        """Microseconds of each stage per request, in the order of `STAGES`. Empty before the first request."""
        requests = self.calls.get(_REQUESTS, 0)
        return {stage: self.took_s[stage] / requests * 1e6 for stage, _, _ in STAGES if requests and stage in self.took_s}

    def idle_stages(self) -> list[str]:
        """Stages that fewer than one request in twenty went through: the service does that work somewhere else by now."""
        requests = self.calls.get(_REQUESTS, 0)
        return sorted({stage for stage, _, _ in STAGES if self.calls.get(stage, 0) * 20 <= requests})

    def requests_per_turn(self) -> float:
        """How many requests shared one write to the log."""
        return self.calls.get(_REQUESTS, 0) / max(1, self.calls.get("write to the log", 0))


def found(where: str) -> Any:
    """The module or class that a stage lives in."""
    module, _, name = where.partition(":")
    loaded = import_module(module)
    return getattr(loaded, name) if name else loaded


def main() -> int:
    """Serve with the watch on."""
    watch = Stopwatch()
    for stage, where, name in STAGES:
        watch.around(found(where), name, stage)
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn hands the signal on once it has stopped
    code = serve.main()
    found_out = {"us": watch.per_request_us(), "requests_per_turn": watch.requests_per_turn(), "idle": watch.idle_stages()}
    Path(sys.argv[1]).write_text(json.dumps(found_out))
    return code


if __name__ == "__main__":
    sys.exit(main())
