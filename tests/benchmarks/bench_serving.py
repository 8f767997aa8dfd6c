"""CPU of the serving process per request, against a bare ASGI hello on the same server. Prints a table; asserts nothing.

Run: `python tests/benchmarks/bench_serving.py` with the package installed. Real uvicorn processes on 127.0.0.1, 8 connections kept open.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve()
ITEM = {"id": "q1", "place": "gate", "at": "2013-04-01T12:00:00Z"}


def serve(what: str, directory: Path, port: int) -> None:
    from mlops_lab.serving.on_fastapi import create_app, run

    if what == "hello":

        async def hello(scope, receive, send):  # type: ignore[no-untyped-def]
            if scope["type"] == "lifespan":
                for _ in range(2):
                    await send({"type": (await receive())["type"] + ".complete"})
                return
            await receive()
            headers = [(b"content-type", b"text/plain"), (b"content-length", b"5")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"hello"})

        run(hello, "127.0.0.1", port)  # type: ignore[arg-type]
    sys.path.insert(0, str(HERE.parents[1]))
    from serving_builders import a_replica

    run(create_app(a_replica(directory, 0.25, every_s=0.5).parts), "127.0.0.1", port)


def a_request(path: str, rows: int) -> bytes:
    body = json.dumps(ITEM if rows == 1 else {"items": [ITEM] * rows}).encode()
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def a_reply(connection: socket.socket) -> bytes:
    got = b""
    while True:
        got += connection.recv(1 << 20)
        head, found, body = got.partition(b"\r\n\r\n")
        if found:
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            if len(body) >= length:
                return got


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(what: str, rows: int, requests: int) -> None:
    with tempfile.TemporaryDirectory() as directory, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        began = time.perf_counter()
        server = subprocess.Popen([sys.executable, str(HERE), what, directory, str(port)], stderr=subprocess.DEVNULL)
        request = a_request("/v1/predict", rows)
        connections = []
        while not connections:
            try:
                connections.append(socket.create_connection(("127.0.0.1", port)))
            except ConnectionRefusedError:
                time.sleep(0.005)
        connections[0].sendall(request)
        assert b" 200 OK" in a_reply(connections[0])
        first_s = time.perf_counter() - began
        connections += [socket.create_connection(("127.0.0.1", port)) for _ in range(7)]
        took: list[float] = []
        cpu, wall = cpu_s(server.pid), time.perf_counter()
        for _ in range(requests // 8):
            sent = time.perf_counter()
            for connection in connections:
                connection.sendall(request)
            for connection in connections:
                a_reply(connection)
                took.append(time.perf_counter() - sent)
        cpu, wall = cpu_s(server.pid) - cpu, time.perf_counter() - wall
        memory = resident_mib(server.pid)
        server.terminate()
        server.wait()
        done = len(took)
        p99_ms = sorted(took)[int(done * 0.99)] * 1000
        print(
            f"{what:8} rows {rows:4}  {done / wall:7.0f} req/s  CPU {cpu / done * 1e6:7.0f} µs/req {cpu / done / rows * 1e6:6.1f} µs/row"
            f"  p99 {p99_ms:5.1f} ms  first answer {first_s:4.2f} s  {memory:4.0f} MiB",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    else:
        measure("hello", 1, 16000)
        for rows_, requests_ in ((1, 16000), (3, 8000), (20, 4000), (64, 1600)):
            measure("serving", rows_, requests_)
