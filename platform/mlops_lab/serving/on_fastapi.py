"""The service on FastAPI and uvicorn: routes, documentation, start and stop.

The two busy routes are answered before FastAPI's routing: it would cost more than reading, scoring, logging and encoding together.
They are routes of the app as well, for the documentation and for an app that is mounted under a prefix.
"""

import asyncio
import errno
import gc
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from mlops_lab.errors import PortInUse
from mlops_lab.serving.contract import LIMITS, Limits, Refusal, check_length
from mlops_lab.serving.on_prometheus import CONTENT_TYPE, Metrics
from mlops_lab.serving.openapi import document
from mlops_lab.serving.service import Headers, Reply, Service, ServingParts

_IDLE_CATCH_UP_S = 0.5

_Work = Callable[[Headers, bytes], Reply]

_log = logging.getLogger(__name__)


class ServingApp(FastAPI):
    """FastAPI with the two busy routes in front."""

    busy: dict[str, _Work]
    service: Service
    behind_a_socket = False
    """Requests come in over the network, none from within this event loop; `run` says so."""

    def openapi(self) -> dict[str, Any]:
        return document(self.title, self.service.bodies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            work = self.busy.get(scope["path"])
            if work is not None:
                await _answer(self.service, work, scope, receive, send)
                return
        await super().__call__(scope, receive, send)


def create_app(parts: ServingParts, title: str = "mlops-lab", limits: Limits = LIMITS) -> ServingApp:
    """Make the app, with the title of its documentation page.

    Its start takes in the bus's facts and loads the champion, its stop closes the log.
    """
    service = Service(parts, limits)
    metrics = Metrics(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        parts.facts.catch_up()
        if app.behind_a_socket:
            parts.facts.share_within_turns(asyncio.get_running_loop().call_soon)
        parts.follower.start()
        idle = asyncio.create_task(_catch_up_when_idle(parts))
        gc.collect()
        gc.freeze()  # what is here now stays: the collector need not walk over it again and again
        try:
            yield
        finally:
            idle.cancel()
            parts.follower.stop()
            parts.log.close()

    app = ServingApp(title=title, version="1", lifespan=lifespan, redoc_url=None, redirect_slashes=False)
    app.service = service
    app.busy = {"/v1/predict": service.predict, "/v1/feedback": service.feedback}

    async def predict(request: Request) -> Response:
        """Answer 1 to 1000 items with the present champion. Every answer is in the prediction log before it is sent."""
        return await _routed(service, service.predict, request)

    async def feedback(request: Request) -> Response:
        """Take outcomes of earlier answers, in any order, late or repeated. Accepted ones are logged before the reply."""
        return await _routed(service, service.feedback, request)

    async def model() -> Response:
        """What answers now, since when, and how old the knowledge of the ledger is."""
        return _response(service.model())

    async def healthz() -> Response:
        """The process answers."""
        return _response(service.health())

    async def readyz() -> Response:
        """Predictions can be answered and logged."""
        return _response(service.ready())

    async def page() -> Response:
        """Prometheus metrics."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    app.add_api_route("/v1/predict", predict, methods=["POST"])
    app.add_api_route("/v1/feedback", feedback, methods=["POST"], status_code=202)
    app.add_api_route("/v1/model", model, methods=["GET"])
    app.add_api_route("/healthz", healthz, methods=["GET"])
    app.add_api_route("/readyz", readyz, methods=["GET"])
    app.add_api_route("/metrics", page, methods=["GET"])

    async def as_problem(_: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            return _response(service.refuse("other", error, None))
        known = {404: "There is no such address here: see /docs.", 405: "This address does not take that method: see /docs."}
        refusal = Refusal(error.status_code, error.detail, known.get(error.status_code, error.detail))
        reply = _response(service.refuse("other", refusal, None))
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
    if isinstance(app, ServingApp):
        app.behind_a_socket = True
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    _log.info("serving.started", extra={"host": host, "port": listener.getsockname()[1]})
    uvicorn.Server(config).run(sockets=[listener])


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


async def _answer(service: Service, work: _Work, scope: Scope, receive: Receive, send: Send) -> None:
    headers = scope["headers"]
    body = b""
    try:
        for name, value in headers:
            if name == b"content-length":
                check_length(int(value), service.bodies.limits)
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body = body + message.get("body", b"") if body else message.get("body", b"")
            check_length(len(body), service.bodies.limits)
            if not message.get("more_body", False):
                break
    except Refusal as refusal:
        reply = service.refuse(work.__name__, refusal, None)
    else:
        reply = work(headers, body)
    content = reply.body
    reply.headers.append((b"content-length", b"%d" % len(content)))
    await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
    await send({"type": "http.response.body", "body": content})


async def _routed(service: Service, work: _Work, request: Request) -> Response:
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            check_length(len(body), service.bodies.limits)
    except Refusal as refusal:
        return _response(service.refuse(work.__name__, refusal, None))
    return _response(work(request.scope["headers"], body))


def _response(reply: Reply) -> Response:
    response = Response(reply.body, status_code=reply.status)
    for name, value in reply.headers:
        response.headers[name.decode("latin-1")] = value.decode("latin-1")
    return response
