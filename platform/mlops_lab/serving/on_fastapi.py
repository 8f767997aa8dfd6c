"""The routes of the service on FastAPI: documentation, metrics, errors, and the busy routes in every form that ASGI allows.

Under uvicorn the two busy routes do not come this way, see `on_uvicorn_protocol.py`; here they are for requests in an unusual form and
for an app that is mounted under a prefix.
"""

from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from mlops_lab.serving.call import FEEDBACK, PREDICT, Call, Reply
from mlops_lab.serving.contract import Refusal
from mlops_lab.serving.on_prometheus import CONTENT_TYPE, Metrics
from mlops_lab.serving.openapi import document
from mlops_lab.serving.service import Service
from mlops_lab.serving.turns import Turns


class _Documented(FastAPI):
    """FastAPI with a document that is written from what reads the bodies, and not from the routes."""

    service: Service

    def openapi(self) -> dict[str, Any]:
        return document(self.title, self.service.bodies)


def routes(turns: Turns, title: str) -> FastAPI:
    """Make the app of a service that was started elsewhere, with the title of its documentation page."""
    service = turns.service
    metrics = Metrics(service)
    app = _Documented(title=title, version="1", redoc_url=None, redirect_slashes=False)
    app.service = service

    async def predict(request: Request) -> Response:
        """Answer 1 to 1000 items with the present champion. Every answer is in the prediction log before it is sent."""
        return await _routed(turns, PREDICT, request)

    async def feedback(request: Request) -> Response:
        """Take outcomes of earlier answers, in any order, late or repeated. Accepted ones are logged before the reply."""
        return await _routed(turns, FEEDBACK, request)

    async def model() -> Response:
        """What answers now, since when, and how old the knowledge of the ledger is."""
        return _counted("model", service.condition.model())

    async def healthz() -> Response:
        """The process answers."""
        return _counted("health", service.condition.health())

    async def readyz() -> Response:
        """Predictions can be answered and logged."""
        return _counted("ready", service.condition.ready())

    async def page() -> Response:
        """Prometheus metrics."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    app.add_api_route("/v1/predict", predict, methods=["POST"])
    app.add_api_route("/v1/feedback", feedback, methods=["POST"], status_code=202)
    app.add_api_route("/v1/model", model, methods=["GET"])
    app.add_api_route("/healthz", healthz, methods=["GET"])
    app.add_api_route("/readyz", readyz, methods=["GET"])
    app.add_api_route("/metrics", page, methods=["GET"])

    def _counted(route: str, reply: Reply) -> Response:
        service.counts.replies[route, reply.status] += 1
        return _response(reply)

    async def as_problem(_: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            return _counted("other", service.refuse("other", error, None))
        known = {404: "There is no such address here: see /docs.", 405: "This address does not take that method: see /docs."}
        refusal = Refusal(error.status_code, error.detail, known.get(error.status_code, error.detail))
        reply = _counted("other", service.refuse("other", refusal, None))
        reply.headers.update(error.headers or {})
        return reply

    app.add_exception_handler(HTTPException, as_problem)
    app.add_exception_handler(Exception, as_problem)
    return app


async def _routed(turns: Turns, route: str, request: Request) -> Response:
    """Let a request take its turn like those that come straight from a connection."""
    service, limits, body = turns.service, turns.limits, bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limits.body_bytes:
            refusal = Refusal(413, "Body too large", f"A body may have {limits.body_bytes} bytes. Send fewer items at once.")
            service.counts.replies[route, refusal.status] += 1
            return _response(service.refuse(route, refusal, None))
    return _response(await turns.answer(Call(route, request.scope["headers"], bytes(body))))


def _response(reply: Reply) -> Response:
    response = Response(reply.body, status_code=reply.status)
    for name, value in reply.headers:
        response.headers[name.decode("latin-1")] = value.decode("latin-1")
    return response
