"""The service on FastAPI and uvicorn: routes, documentation, start and stop.

Under `run`, the two busy routes are answered in front of FastAPI, by `on_uvicorn.py`: ASGI and routing would cost more than reading,
scoring, logging and encoding together. They are routes of the app as well, for the documentation, for requests in an unusual form and
for an app that is mounted under a prefix.
"""

import asyncio
import errno
import gc
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from mlops_lab.errors import PortInUse
from mlops_lab.serving.contract import BODY_LIMITS, BodyLimits, Refusal
from mlops_lab.serving.on_prometheus import CONTENT_TYPE, Metrics
from mlops_lab.serving.on_uvicorn import ConnectionLimits, FastProtocol, Turns
from mlops_lab.serving.openapi import document
from mlops_lab.serving.service import FEEDBACK, PREDICT, Call, Reply, Service, ServingParts

_IDLE_CATCH_UP_S = 0.5

_log = logging.getLogger(__name__)


class ServingApp(FastAPI):
    """FastAPI, with the service and the turns that its requests are worked on in."""

    service: Service
    turns: Turns

    def openapi(self) -> dict[str, Any]:
        """The document, which is written from what reads the bodies and not from the routes."""
        return document(self.title, self.service.bodies)


def create_app(
    parts: ServingParts, title: str = "mlops-lab", limits: ConnectionLimits | None = None, max_items: int = BODY_LIMITS.max_items
) -> ServingApp:
    """Make the app, with the title of its documentation page.

    Its start takes in the bus's facts and loads the champion, its stop closes the log.
    """
    limits = limits or ConnectionLimits()
    service = Service(parts, BodyLimits(limits.body_bytes, max_items))
    turns = Turns(service, limits)
    metrics = Metrics(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        parts.facts.catch_up()
        parts.keys.read_back(parts.log.directory, parts.clock.now())
        parts.follower.start()
        turns.start(asyncio.get_running_loop())
        beside = [asyncio.create_task(_catch_up_when_idle(parts)), asyncio.create_task(turns.keep_limits())]
        gc.collect()
        gc.freeze()  # what is here now stays: the collector need not walk over it again and again
        try:
            yield
        finally:
            for task in beside:
                task.cancel()
            turns.stop()
            parts.follower.stop()
            parts.log.close()

    app = ServingApp(title=title, version="1", lifespan=lifespan, redoc_url=None, redirect_slashes=False)
    app.service = service
    app.turns = turns

    async def predict(request: Request) -> Response:
        """Answer 1 to 1000 items with the present champion. Every answer is in the prediction log before it is sent."""
        return await _routed(service, PREDICT, request, turns.limits)

    async def feedback(request: Request) -> Response:
        """Take outcomes of earlier answers, in any order, late or repeated. Accepted ones are logged before the reply."""
        return await _routed(service, FEEDBACK, request, turns.limits)

    async def model() -> Response:
        """What answers now, since when, and how old the knowledge of the ledger is."""
        return _counted("model", service.model())

    async def healthz() -> Response:
        """The process answers."""
        return _counted("health", service.health())

    async def readyz() -> Response:
        """Predictions can be answered and logged."""
        return _counted("ready", service.ready())

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


def run(app: FastAPI, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; requests that have begun are finished.

    Raises:
        PortInUse: Another program listens there.
    """
    listener = _listen(host, port)
    _log.info("serving.started", extra={"host": host, "port": listener.getsockname()[1]})
    server_of(app).run(sockets=[listener])


def server_of(app: FastAPI) -> uvicorn.Server:
    """The server of an app, still to be given its sockets."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=partial(FastProtocol, turns=app.turns) if isinstance(app, ServingApp) else "httptools",  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=10,
    )
    return uvicorn.Server(config)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse.at(host, port) from error
        raise
    return listener


async def _catch_up_when_idle(parts: ServingParts) -> None:
    """Keep the backlog short between requests, so that the first one after a pause does not pay for all of it."""
    while True:
        await asyncio.sleep(_IDLE_CATCH_UP_S)
        try:
            parts.facts.catch_up()
        except Exception:
            _log.exception("serving.catch_up_failed")


async def _routed(service: Service, route: str, request: Request, limits: ConnectionLimits) -> Response:
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limits.body_bytes:
                raise Refusal(413, "Body too large", f"A body may have {limits.body_bytes} bytes. Send fewer items at once.")
    except Refusal as refusal:
        service.counts.replies[route, refusal.status] += 1
        return _response(service.refuse(route, refusal, None))
    call = Call(route, request.scope["headers"], body)
    if service.waits_for_disk:
        return _response(await asyncio.to_thread(service.answer, call))
    return _response(service.answer(call))


def _response(reply: Reply) -> Response:
    response = Response(reply.body, status_code=reply.status)
    for name, value in reply.headers:
        response.headers[name.decode("latin-1")] = value.decode("latin-1")
    return response
