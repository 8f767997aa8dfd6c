"""The service as an ASGI app: its start and its end, and who answers what comes in by ASGI.

The two probes are answered here. Everything else goes to FastAPI (`on_fastapi.py`), which is imported beside the first answers: a replica
that was just started answers predictions a quarter sooner for it.
"""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from mlops_lab.serving.call import Reply
from mlops_lab.serving.contract import BODY_LIMITS, BodyLimits
from mlops_lab.serving.parts import ServingParts
from mlops_lab.serving.service import Service
from mlops_lab.serving.turns import ConnectionLimits, Turns

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_IDLE_CATCH_UP_S = 0.5
_LOAD_AFTER_S = 1.0

_log = logging.getLogger(__name__)


class App:
    """One replica's app."""

    def __init__(self, service: Service, turns: Turns, title: str) -> None:
        self.service = service
        self.turns = turns
        self._title = title
        self._rest: AsgiApp | None = None
        self._loading: asyncio.Future[AsgiApp] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        probe = self._probe(scope)
        if probe is not None:
            await _send(probe, send)
        else:
            app = self._rest or await self._load()
            await app(scope, receive, send)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take in the bus's facts, load the champion, answer; at the end, finish what is under way and close the log."""
        parts = self.service.parts
        parts.source.catch_up()
        parts.keys.read_back(parts.log.directory, parts.clock.now())
        parts.follower.start()
        self.turns.start(asyncio.get_running_loop())
        beside = [asyncio.create_task(each) for each in (self._catch_up_when_idle(), self.turns.keep_limits(), self._load_beside())]
        gc.collect()
        gc.freeze()  # what is here now stays: the collector need not walk over it again and again
        try:
            yield
        finally:
            for task in beside:
                task.cancel()
            self.turns.stop()
            parts.follower.stop()
            parts.log.close()

    async def _live(self, receive: Receive, send: Send) -> None:
        """ASGI's lifespan."""
        await receive()
        try:
            async with self.running():
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except Exception as error:
            _log.exception("serving.failed")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.shutdown.complete"})

    def _probe(self, scope: Scope) -> Reply | None:
        """`/healthz` and `/readyz`, asked with GET."""
        if scope["type"] != "http" or scope["method"] != "GET":
            return None
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path == "/healthz":
            route, reply = "health", self.service.condition.health()
        elif path == "/readyz":
            route, reply = "ready", self.service.condition.ready()
        else:
            return None
        self.service.counts.replies[route, reply.status] += 1
        return reply

    async def _load(self) -> AsgiApp:
        """FastAPI with its routes; the import runs on a thread, so that predictions are answered meanwhile."""
        if self._loading is None:
            self._loading = asyncio.ensure_future(asyncio.to_thread(self._make))
        loading = self._loading
        try:
            self._rest = await asyncio.shield(loading)
        except Exception:
            if self._loading is loading:
                self._loading = None  # whoever asks next tries again
            raise
        return self._rest

    def _make(self) -> AsgiApp:
        from mlops_lab.serving.on_fastapi import routes

        return routes(self.turns, self._title)

    async def _load_beside(self) -> None:
        await asyncio.sleep(_LOAD_AFTER_S)
        try:
            await self._load()
        except Exception:
            _log.exception("serving.routes_not_loaded")

    async def _catch_up_when_idle(self) -> None:
        """Keep the backlog short between requests, so that the first one after a pause does not pay for all of it."""
        while True:
            await asyncio.sleep(_IDLE_CATCH_UP_S)
            try:
                self.service.parts.source.catch_up()
            except Exception:
                _log.exception("serving.catch_up_failed")


def create_app(
    parts: ServingParts, title: str = "mlops-lab", limits: ConnectionLimits | None = None, max_items: int = BODY_LIMITS.max_items
) -> App:
    """Put an app together.

    Args:
        parts: Of the replica.
        title: Of the documentation page.
        limits: Of connections; None for the defaults.
        max_items: Of one request.
    """
    limits = limits or ConnectionLimits()
    service = Service(parts, BodyLimits(limits.body_bytes, max_items))
    return App(service, Turns(service, limits), title)


async def _send(reply: Reply, send: Send) -> None:
    headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body))]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
