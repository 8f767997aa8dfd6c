"""The service over ASGI, as its callers see it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx

from mlops_lab.serving.app import create_app
from mlops_lab.serving.prediction_log import read_frames
from serving_builders import TOKEN, Replica

JSON = {"content-type": "application/json"}
BEARER = {"authorization": f"Bearer {TOKEN}"}


@asynccontextmanager
async def serving(replica: Replica, root_path: str = "") -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(replica.parts)
    async with app.running():
        transport = httpx.ASGITransport(app, root_path=root_path, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://serving") as client:
            yield client


def with_service(replica: Replica, story: Callable[[httpx.AsyncClient], Awaitable[None]], root_path: str = "") -> None:
    async def told() -> None:
        async with serving(replica, root_path) as client:
            await story(client)

    asyncio.run(told())


def logged(replica: Replica) -> list[dict[str, object]]:
    return [frame for _, frame in read_frames(replica.directory / "serving/log")]


def an_outcome(event_id: str = "e1", **change: object) -> dict[str, object]:
    return {"event_id": event_id, "prediction_id": "p1", "revision": 0, "outcome": {"long": True}, "at": "2013-04-01T13:00:00Z"} | change
