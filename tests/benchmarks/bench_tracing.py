"""What tracing costs a request that is not traced, and one that is; in process, without HTTP.

Run `python tests/benchmarks/bench_tracing.py`; it prints one line of JSON, in microseconds per request, the best of many short rounds that
take turns. Spans go through the real queue to nobody. `off` is the service as it is without LAB_TELEMETRY variables.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the builders of the tests

from mlops_lab.serving.call import PREDICT, Call
from mlops_lab.serving.service import Service
from mlops_lab.telemetry import OFF, Span, Spans, TraceContext
from mlops_lab.telemetry.queue import Queue
from serving_builders import a_replica, an_item

ROUNDS, REQUESTS = 60, 400
BUDGET_US = 3.0
"""What tracing 1 % of the requests may add to each."""


def main() -> int:
    """Measure and print; 1 if tracing 1 % costs more than the budget."""
    queue: Queue[Span] = Queue("spans", lambda: lambda batch: True)
    body, plain = json.dumps(an_item()).encode(), [(b"content-type", b"application/json")]
    unsampled = [*plain, (b"traceparent", TraceContext("1" * 32, "2" * 16, sampled=False).traceparent.encode())]
    ways = {
        "off": (OFF, plain),
        "on_none_sampled": (Spans(queue.put, 0.0), plain),
        "on_1_percent": (Spans(queue.put, 0.01), plain),
        "on_all": (Spans(queue.put, 1.0), plain),
        "off_caller_unsampled": (OFF, unsampled),
        "on_caller_unsampled": (Spans(queue.put, 1.0), unsampled),
    }
    with tempfile.TemporaryDirectory() as folder:
        services = {}
        for name, (spans, headers) in ways.items():
            (Path(folder) / name).mkdir()
            replica = a_replica(Path(folder) / name, spans=spans)
            replica.follow()
            services[name] = (Service(replica.parts), headers)
        took: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(ROUNDS):
            for name, (service, headers) in sorted(services.items(), reverse=bool(number % 2)):
                began = time.perf_counter()
                for _ in range(REQUESTS):
                    assert service.answer(Call(PREDICT, headers, body)).status == 200
                took[name].append((time.perf_counter() - began) / REQUESTS * 1e6)
    best = {name: min(took[name]) for name in ways}
    print(json.dumps({name: round(value, 2) for name, value in best.items()}))
    return int(best["on_1_percent"] - best["off"] > BUDGET_US)


if __name__ == "__main__":
    sys.exit(main())
