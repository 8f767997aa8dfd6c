"""What people start from, to measure ours against: a FastAPI + pydantic echo as tutorials show it, and a bare ASGI hello.

As a program: `python -m benchmarks.serving.references {echo,hello} PORT`.
"""

import sys
from datetime import datetime
from typing import Any

import uvicorn


def echo_app() -> Any:
    """Reads one flight with pydantic, answers without a model and without a log."""
    from fastapi import FastAPI
    from pydantic import BaseModel, ConfigDict, Field

    class Flight(BaseModel):
        model_config = ConfigDict(extra="forbid")

        flight_id: str = Field(min_length=1, max_length=64)
        scheduled_departure: datetime
        carrier: str = Field(min_length=2, max_length=2)
        tail_number: str | None = Field(None, max_length=10)
        origin: str = Field(min_length=3, max_length=3)
        destination: str = Field(min_length=3, max_length=3)
        distance_miles: float | None = Field(None, ge=10, le=12000)

    class Answer(BaseModel):
        flight_id: str
        probability: float

    app = FastAPI()

    @app.post("/predict")
    async def predict(flight: Flight) -> Answer:
        return Answer(flight_id=flight.flight_id, probability=0.5)

    return app


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """The least that a Python ASGI server does."""
    await receive()
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})


if __name__ == "__main__":
    app = echo_app() if sys.argv[1] == "echo" else hello
    lifespan = "auto" if sys.argv[1] == "echo" else "off"
    config: dict[str, Any] = {"loop": "uvloop", "http": "httptools", "access_log": False, "log_level": "warning", "lifespan": lifespan}
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), **config)
