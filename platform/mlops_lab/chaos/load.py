"""The client whose history is the evidence: `python -m mlops_lab.chaos.load PLAN.json`. Standard library only.

Closed loops on keep-alive connections, bounded in time and number, on this machine only. Every request that was sent becomes one line
of the history, whatever became of it; a connection that was refused was no request. It never sends a request twice, unless it carries
an idempotency key and got no answer: then the same key and body go out again, as a line of their own.
"""

import asyncio
import json
import random
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

_HOST = "127.0.0.1"
_REFUSED_PAUSE_S = 0.03
_FLUSH_EVERY_S = 0.1
_LONGEST_S = 1800.0
_MOST = 5_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What a client does.

    Attributes:
        ports: Replicas on 127.0.0.1; a connection goes on to the next when one refuses it.
        history: File that gets a JSON object per request.
        bodies: File of bodies, one a line; each request takes one at random.
        name: Prefix of the request ids.
        connections: Loops beside each other.
        seconds: Ends after so long, at most half an hour.
        most: Ends after so many requests.
        pause_ms: Each loop waits so long between an answer and the next request.
        timeout_s: A request without an answer for so long counts as failed.
        keys: Send an Idempotency-Key with each request.
        seed: Of the choice of bodies.
    """

    ports: tuple[int, ...]
    history: str
    bodies: str
    name: str = "load"
    connections: int = 8
    seconds: float = 600.0
    most: int = _MOST
    pause_ms: float = 0.0
    timeout_s: float = 15.0
    keys: bool = False
    seed: int = 7


class _Loop:
    """One connection at a time, one request at a time on it."""

    def __init__(self, plan: Plan, number: int, bodies: list[bytes], run: "_Run") -> None:
        self._plan, self._number, self._bodies, self._run = plan, number, bodies, run
        self._chance = random.Random(f"{plan.seed}/{number}")
        self._target = number % len(plan.ports)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._used = 0

    async def work(self) -> None:
        count = 0
        while not self._run.over():
            count += 1
            name = f"{self._plan.name}-{self._number}-{count}"
            body = self._chance.choice(self._bodies)
            attempt = 1
            while not await self._one(name, attempt, body) and self._plan.keys and not self._run.over():
                attempt += 1
            if self._plan.pause_ms:
                await asyncio.sleep(self._plan.pause_ms / 1000)
        self._drop()

    async def _one(self, name: str, attempt: int, body: bytes) -> bool:
        """Send one request and write its line; False when there was no answer."""
        if not await self._connected():
            return True
        assert self._reader is not None
        assert self._writer is not None
        port = self._plan.ports[self._target]
        identifier = name if attempt == 1 else f"{name}.{attempt}"
        key = f"Idempotency-Key: {name}\r\n" if self._plan.keys else ""
        head = (
            f"POST /v1/predict HTTP/1.1\r\nHost: {_HOST}:{port}\r\nContent-Type: application/json\r\n"
            f"X-Request-Id: {identifier}\r\n{key}Content-Length: {len(body)}\r\n\r\n"
        )
        line: dict[str, object] = {"id": identifier, "key": name if key else None, "port": port, "earlier": self._used}
        line["sent_ns"] = time.monotonic_ns()
        try:
            self._writer.write(head.encode() + body)
            async with asyncio.timeout(self._plan.timeout_s):
                status, headers, content = await read_answer(self._reader)
            line |= {"status": status, "retry_after": headers.get("retry-after"), "body": content.decode("utf-8", "replace")}
            self._used += 1
            if headers.get("connection", "").lower() == "close":
                line["closing"] = True
                self._drop()
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            line |= {"status": 0, "retry_after": None, "body": f"{type(error).__name__}: {error}"}
            self._drop()
        line["done_ns"] = time.monotonic_ns()
        self._run.write(line)
        return line["status"] != 0

    async def _connected(self) -> bool:
        while self._writer is None:
            if self._run.over():
                return False
            try:
                self._reader, self._writer = await asyncio.open_connection(_HOST, self._plan.ports[self._target])
                self._used = 0
            except (ConnectionRefusedError, ConnectionResetError):
                # A process that dies may take up a connection and let it go at once. Nothing was sent either way.
                self._target = (self._target + 1) % len(self._plan.ports)
                await asyncio.sleep(_REFUSED_PAUSE_S)
        return True

    def _drop(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """One answer: status, headers by lower-case name, body. Raises EOFError when the connection ends before it does."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (row.partition(":") for row in head[1:] if row)}
    return int(head[0].split(" ")[1]), headers, await reader.readexactly(int(headers["content-length"]))


class _Run:
    """What the loops share: the end, and the history."""

    def __init__(self, plan: Plan, history: IO[str]) -> None:
        self._until = time.monotonic() + min(plan.seconds, _LONGEST_S)
        self._left = min(plan.most, _MOST)
        self._history = history
        self._lines: list[str] = []
        self.stopped = False

    def over(self) -> bool:
        return self.stopped or self._left <= 0 or time.monotonic() > self._until

    def write(self, line: dict[str, object]) -> None:
        self._left -= 1
        self._lines.append(json.dumps(line) + "\n")

    def flush(self) -> None:
        self._history.writelines(self._lines)
        self._lines.clear()
        self._history.flush()


async def _work(plan: Plan, history: IO[str]) -> None:
    bodies = Path(plan.bodies).read_bytes().splitlines()
    run = _Run(plan, history)
    loops = [asyncio.create_task(_Loop(plan, number, bodies, run).work()) for number in range(plan.connections)]

    def stop() -> None:
        run.stopped = True

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    pending = set(loops)
    while pending:
        _, pending = await asyncio.wait(pending, timeout=_FLUSH_EVERY_S)
        run.flush()
    run.flush()
    for loop in loops:
        loop.result()


def main() -> int:
    """Read the plan, do it."""
    given = json.loads(Path(sys.argv[1]).read_text())
    plan = Plan(**given | {"ports": tuple(given["ports"])})
    with Path(plan.history).open("w", encoding="utf-8") as history:
        asyncio.run(_work(plan, history))
    return 0


def written(plan: Plan) -> str:
    """The plan as the program reads it."""
    return json.dumps(asdict(plan))


if __name__ == "__main__":
    sys.exit(main())
