"""A Prefect server of a few lines, what it is told, and what it says of its runs."""

import json
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mlops_lab.bootstrap import Lab
from mlops_lab.events import Message
from mlops_lab.pipelines.orders import TrainModel

AT = datetime(2013, 7, 1, 12, tzinfo=UTC)
LOST = Message(
    "SkillLost", AT, "flight-delay", {"window": "2013-W26", "version": 1, "because": "unexplained loss in 3 of 4 weeks"}, id="lost-2013-W26"
)
DRILL = TrainModel("train-x", AT, "trainer", origin="drill", flip_share=0.4)


class Server(ThreadingHTTPServer):
    """Takes what a Prefect server takes, and keeps it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str, Any]] = []
        self.down = False
        self.refuses = 0
        self.runs: list[dict[str, Any]] = []
        self.heartbeats: list[datetime] = []


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._answer("GET", None)

    def do_POST(self) -> None:
        self._answer("POST", json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, method: str, body: Any) -> None:
        self.server.asked.append((method, self.path, body))
        self.send_response(self.server.refuses or (503 if self.server.down else 200))
        self.end_headers()
        self.wfile.write(json.dumps(self._found(body)).encode())

    def _found(self, body: Any) -> Any:
        if self.path.endswith("/flow_runs/filter"):
            return self.server.runs
        if self.path.endswith("/events/filter"):
            newest_first = sorted(self.server.heartbeats, reverse=body["filter"]["order"] == "DESC")
            return {"events": [{"occurred": each.isoformat()} for each in newest_first][: body["limit"]]}
        return {"id": "an-id"}

    def log_message(self, format: str, *args: object) -> None:
        pass


def impatient(lab: Lab) -> Lab:
    return Lab(lab.settings.model_copy(update={"orchestration": lab.settings.orchestration.model_copy(update={"patience_s": 0.001})}))


def a_run(state: str, order: str = "train-x", since: datetime = AT, attempt: int = 1) -> dict[str, Any]:
    said = {"timestamp": since.isoformat(), "message": "somebody ended it"}
    return {"id": f"{order}-run", "parameters": {"order_id": order, "attempt": attempt}, "state_type": state, "state": said}


def changes(server: Server) -> list[tuple[str, Any]]:
    """What the server was asked to do, past all questions: path and body."""
    return [(path, body) for method, path, body in server.asked if method != "GET" and not path.endswith("/filter")]
