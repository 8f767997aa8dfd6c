"""Bad input: whatever a socket can carry, thousands of times, while ordinary requests go on beside it."""

import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from mlops_lab.chaos.client import Client
from mlops_lab.chaos.fault import Fault, Finding, Size, few
from mlops_lab.chaos.history import Request, failures, percentile_ms, read_history
from mlops_lab.chaos.load import Plan
from mlops_lab.chaos.stored import Stored, read_logs, unlogged
from mlops_lab.chaos.world import World

GROWTH_KIB = 24 * 1024
_THREADS = 3
_SLOW_EVERY = 500
_PATIENCE_S = 8.0
_TIMEOUT_S = 1  # the service's own, for heads and bodies, so that the slow ones do not take all day


@dataclass(frozen=True, slots=True)
class Attack:
    """One thing that is sent.

    Attributes:
        kind: What it is, for a person.
        content: The bytes; sent at once, or one by one when `slow`.
        framed: It is HTTP and whole, so that it has to be answered, and with problem details; else being closed is an answer too.
        allowed: Statuses beside 4xx that are right.
        slow: Sent a byte at a time, with pauses, and never finished.
        replies: What has to come, in order, by the first digit of its status; the last one is what counts as its answer.
    """

    kind: str
    content: bytes
    framed: bool = True
    allowed: tuple[int, ...] = ()
    slow: bool = False
    replies: str = ""


@dataclass(frozen=True, slots=True)
class Met:
    """What became of one: status, 0 when the connection was closed without an answer, -1 when nothing happened at all, -2 when several
    replies were due and others came, or in another order."""

    kind: str
    status: int
    explained: bool
    framed: bool
    allowed: tuple[int, ...]


@dataclass(frozen=True)
class Assaulted:
    """The evidence: what became of each, the history of ordinary requests, the log, memory from /proc, and the process."""

    met: Sequence[Met]
    beside: Sequence[Request]
    stored: Stored
    resident_kib: Sequence[int]
    same_process: bool


def run(world: World, seed: int, size: Size) -> Assaulted:
    """Send them on connections of their own from a few threads."""
    home = world.home()
    history = home.path / "history.jsonl"
    count = size.of(2_000, 100_000)
    met: list[Met] = []
    resident = []
    body = home.bodies.read_bytes().splitlines()[0]
    with home.replica(head_timeout_s=_TIMEOUT_S, body_timeout_s=_TIMEOUT_S) as replica:
        replica.start()
        pid = replica.pid
        _send_all(replica.port, body, seed + 1, 500, [])  # before the first figure of memory everything has been met once
        resident.append(replica.resident_kib())
        plan = Plan((replica.port,), str(history), str(home.bodies), connections=2, pause_ms=10, seconds=1500, seed=seed)
        with Client(plan) as client:
            client.await_answers()
            for part in range(10):
                _send_all(replica.port, body, seed + 100 * part, count // 10, met)
                if replica.alive:
                    resident.append(replica.resident_kib())
            client.stop()
        same = replica.alive and replica.pid == pid
        replica.end()
    return Assaulted(met, read_history(history), read_logs([home.log()]), resident, same)


def check(seen: Assaulted) -> Finding:
    """Each gets a 4xx with a reason or is closed, nobody else notices, the process lives and does not grow."""
    broken = failures(seen.beside) + unlogged(seen.beside, seen.stored)
    wrong: Counter[tuple[str, str]] = Counter()
    for one in seen.met:
        refused = 400 <= one.status < 500
        if one.status == -1:
            wrong[one.kind, "was left without an answer and without an end"] += 1
        elif one.status == -2:
            wrong[one.kind, "got other replies than were due, or in another order"] += 1
        elif one.status == 0 and one.framed:
            wrong[one.kind, "was closed without an answer"] += 1
        elif one.status and not refused and one.status not in one.allowed:
            wrong[one.kind, f"got {one.status}"] += 1
        elif refused and one.framed and not one.explained:
            wrong[one.kind, f"got {one.status} without a reason"] += 1
    broken += few([f"'{kind}' {what}, {count} times" for (kind, what), count in wrong.items()], most=20)
    growth = max(seen.resident_kib) - seen.resident_kib[0]
    if growth > GROWTH_KIB:
        broken += (f"resident memory grew by {growth / 1024:.0f} MiB, allowed are {GROWTH_KIB // 1024}",)
    if not seen.same_process:
        broken += ("the process did not live through it",)
    if not any(request.status == 200 for request in seen.beside):
        broken += ("no ordinary request was answered beside it",)
    closed = sum(one.status == 0 for one in seen.met)
    measured = (
        f"{len(seen.met)} requests of {len({one.kind for one in seen.met})} kinds, {closed} closed, {sum(wrong.values())} wrong, "
        f"memory + {growth / 1024:.0f} MiB, p99 beside {percentile_ms(seen.beside, 0.99):.0f} ms"
    )
    return Finding(measured, broken)


def _send_all(port: int, body: bytes, seed: int, count: int, met: list[Met]) -> None:
    def work(number: int) -> None:
        chance = random.Random(f"{seed}/{number}")
        for i in range(count // _THREADS + 1):
            slow = i % _SLOW_EVERY == _SLOW_EVERY - 1 or (i == 0 and number == 0)
            kind = chance.choice(SLOW if slow else list(ATTACKS))
            attack = ATTACKS_SLOW[kind](chance, body) if slow else ATTACKS[kind](chance, body)
            met.append(_send(port, attack))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _send(port: int, attack: Attack) -> Met:
    status, explained = -1, False
    with socket.socket() as connection:
        # Closed with a reset: a hundred thousand connections that linger would use up the machine's ports.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.settimeout(_PATIENCE_S)
        try:
            connection.connect(("127.0.0.1", port))
            try:
                if attack.slow:
                    _dribble(connection, attack.content)
                else:
                    connection.sendall(attack.content)
                    if not attack.framed:
                        connection.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it has heard enough: its answer may be there all the same
            reader = connection.makefile("rb")
            for due in attack.replies[:-1]:
                status, _ = _answer(reader)
                if status // 100 != int(due):
                    return Met(attack.kind, -2, False, attack.framed, attack.allowed)
            status, explained = _answer(reader)
            if attack.replies and status // 100 != int(attack.replies[-1]):
                status = -2
        except TimeoutError:
            status = -1
        except (ConnectionResetError, BrokenPipeError):
            status = 0
    return Met(attack.kind, status, explained, attack.framed, attack.allowed)


def _dribble(connection: socket.socket, content: bytes) -> None:
    connection.setblocking(False)
    deadline = time.monotonic() + _PATIENCE_S
    for at in range(len(content)):
        try:
            connection.send(content[at : at + 1])
            if connection.recv(1, socket.MSG_PEEK) is not None:
                break
        except BlockingIOError:
            pass
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    connection.settimeout(_PATIENCE_S)


def _answer(reader: BinaryIO) -> tuple[int, bool]:
    """The next status that comes, and whether its body is problem details; (0, False) when the connection ends without one."""
    line = reader.readline()
    if not line:
        return 0, False
    length = 0
    while (header := reader.readline().strip().lower()) != b"":
        if header.startswith(b"content-length:"):
            length = int(header.split(b":")[1])
    return int(line.split(b" ")[1]), b'"detail"' in reader.read(length)


Make = Callable[[random.Random, bytes], Attack]


def _post(body: bytes, path: str = "/v1/predict", headers: Mapping[str, str] | None = None, length: int | None = None) -> bytes:
    lines = {"Host": "127.0.0.1", "Content-Type": "application/json", "Content-Length": str(len(body) if length is None else length)}
    lines |= headers or {}
    return f"POST {path} HTTP/1.1\r\n{''.join(f'{k}: {v}{_END}' for k, v in lines.items() if v)}\r\n".encode() + body


_END = "\r\n"


def _with(name: str, value: object) -> Make:
    def make(chance: random.Random, body: bytes) -> Attack:
        return Attack(f"{name} is {_short(value)}", _post(json.dumps(json.loads(body) | {name: value}).encode()))

    return make


def _raw(
    kind: str,
    content: Callable[[random.Random, bytes], bytes],
    *,
    framed: bool = True,
    allowed: tuple[int, ...] = (),
    replies: str = "",
) -> Make:
    return lambda chance, body: Attack(kind, content(chance, body), framed, allowed, replies=replies)


def _in_chunks(body: bytes, size: int, trailers: bytes = b"") -> bytes:
    """A body in pieces of a size, with what may follow it."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    content = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailers + b"\r\n"
    return _post(content, headers={"Transfer-Encoding": "chunked", "Content-Length": ""})


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 24 else f"{text[:16]}... ({len(text)} characters)"


_VALUES: Sequence[object] = ({}, [], True, "", "x" * 10_000, -1, 10**300, "\ud800", "x\0y", [[[]]])
_NAMES = ("flight_id", "scheduled_departure", "carrier", "origin", "destination", "distance_miles", "tail_number")
_FIELDS: Sequence[Make] = [_with(name, value) for name in _NAMES for value in _VALUES]
_WHOLE: Sequence[Make] = [
    _raw("an empty body", lambda c, b: _post(b"")),
    _raw("a body that is cut", lambda c, b: _post(b[: c.randrange(1, len(b) - 1)])),
    _raw("a body with garbage behind it", lambda c, b: _post(b + b"}")),
    _raw("random bytes as a body", lambda c, b: _post(c.randbytes(c.randrange(1, 2000)))),
    _raw("100,000 brackets", lambda c, b: _post(b"[" * 100_000)),
    _raw("50,000 nested objects", lambda c, b: _post(b'{"a":' * 50_000 + b"1" + b"}" * 50_000)),
    _raw("NaN", lambda c, b: _post(b.replace(b'"distance_miles":', b'"distance_miles":NaN,"x":'))),
    _raw("Infinity", lambda c, b: _post(b.replace(b'"distance_miles":', b'"distance_miles":-Infinity,"x":'))),
    _raw("an unknown field", lambda c, b: _post(b[:-1] + b',"strange":1}')),
    _raw("a field twice", lambda c, b: _post(b[:-1] + b',"flight_id":"again"}')),
    _raw("a list", lambda c, b: _post(b"[" + b + b"]")),
    _raw("a number", lambda c, b: _post(b"1e999")),
    _raw("null", lambda c, b: _post(b"null")),
    _raw("no items", lambda c, b: _post(b'{"items":[]}')),
    _raw("1001 items", lambda c, b: _post(b'{"items":[' + b",".join([b"{}"] * 1001) + b"]}")),
    _raw("items that are none", lambda c, b: _post(b'{"items":[1,null,"x",[],{}]}')),
    _raw("latin-1", lambda c, b: _post(b.replace(b'"flight_id":"', b'"flight_id":"\xe9\xff'))),
    _raw("UTF-16", lambda c, b: _post(b.decode().encode("utf-16"))),
    _raw("a wrong content type", lambda c, b: _post(b, headers={"Content-Type": "text/plain"})),
    _raw("no content type", lambda c, b: _post(b, headers={"Content-Type": ""})),
    _raw("a compressed body", lambda c, b: _post(b"\x1f\x8b\x08" + b, headers={"Content-Encoding": "gzip"})),
    _raw("a method that is wrong", lambda c, b: _post(b).replace(b"POST", c.choice([b"PUT", b"DELETE", b"PATCH", b"GET"]), 1)),
    _raw("an address that is not there", lambda c, b: _post(b, path=f"/v1/{c.randrange(10**6)}/../../etc/passwd")),
    _raw("feedback without a token", lambda c, b: _post(b'{"items":[]}', path="/v1/feedback")),
    _raw(
        "feedback with a wrong token",
        lambda c, b: _post(b'{"items":[]}', path="/v1/feedback", headers={"Authorization": f"Bearer {c.randrange(10**9)}"}),
    ),
    _raw("a request id with spaces", lambda c, b: _post(b, headers={"X-Request-Id": "a b c"})),
    _raw("a request id of 4,000 characters", lambda c, b: _post(b, headers={"X-Request-Id": "x" * 4000})),
    _raw("a key of 4,000 characters", lambda c, b: _post(b, headers={"Idempotency-Key": "x" * 4000})),
    _raw("300 headers", lambda c, b: _post(b, headers={f"X-{i}": "y" for i in range(300)})),
    _raw("a header of 60,000 characters", lambda c, b: _post(b, headers={"X-Long": "y" * 60_000})),
    _raw("a body said to be 10 GB", lambda c, b: _post(b, length=10**10)),
]
_BROKEN: Sequence[Make] = [
    _raw("garbage", lambda c, b: c.randbytes(c.randrange(1, 4000)), framed=False),
    _raw("a head that is cut", lambda c, b: _post(b)[: c.randrange(1, 80)], framed=False),
    _raw("a body shorter than said", lambda c, b: _post(b, length=len(b) + 100), framed=False),
    _raw("a TLS greeting", lambda c, b: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + c.randbytes(500), framed=False),
    _raw("HTTP/2 without asking", lambda c, b: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", framed=False),
    _raw("a length that is negative", lambda c, b: _post(b).replace(b"Content-Length: ", b"Content-Length: -"), framed=False),
    _raw("two lengths", lambda c, b: _post(b, headers={"content-length": "3"}), framed=False),
    _raw("length and chunks", lambda c, b: _post(b, headers={"Transfer-Encoding": "chunked"}), framed=False),
    _raw(
        "a chunk of no size",
        lambda c, b: _post(b"zz\r\nabc\r\n", headers={"Transfer-Encoding": "chunked", "Content-Length": ""}),
        framed=False,
    ),
    _raw("zero bytes in a header", lambda c, b: _post(b, headers={"X-Zero": "a\0b"}), framed=False),
    _raw("a header without a colon", lambda c, b: _post(b).replace(b"Host: 127.0.0.1", b"Host 127.0.0.1"), framed=False),
    _raw("a line of 100,000 characters", lambda c, b: _post(b, path="/" + "x" * 100_000), framed=False),
    _raw("a request and the end of half the connection", lambda c, b: _post(b), framed=False, allowed=(200,)),
    _raw("garbage behind a request", lambda c, b: _post(b) + b"\0" + c.randbytes(200), replies="24"),
    _raw("twenty requests at once", lambda c, b: _post(b[:-1]) * 20, replies="4" * 20),
    _raw("two hundred requests at once", lambda c, b: _post(b) * 200, allowed=(200,), replies="2" * 200),
    _raw("good and bad requests at once", lambda c, b: (_post(b) + _post(b[:-1])) * 5, replies="24" * 5),
    _raw("chunks of one byte", lambda c, b: _in_chunks(b, 1), allowed=(200,)),
    _raw("two hundred trailers", lambda c, b: _in_chunks(b, 100, b"X-T: y\r\n" * 200), allowed=(200,)),
    _raw("an offer of HTTP/2", lambda c, b: _post(b, headers={"Connection": "Upgrade", "Upgrade": "h2c"}), allowed=(200,)),
]


def _named(makes: Sequence[Make]) -> dict[str, Make]:
    sample = json.dumps({"flight_id": "x", "distance_miles": 100}, separators=(",", ":")).encode()
    return {make(random.Random(1), sample).kind: make for make in makes}


ATTACKS: Mapping[str, Make] = _named([*_FIELDS, *_WHOLE, *_BROKEN])
"""By kind: what is sent at once."""

ATTACKS_SLOW: Mapping[str, Make] = {
    "a slow head": lambda c, b: Attack("a slow head", _post(b), framed=False, slow=True),
    "a slow body": lambda c, b: Attack("a slow body", _post(b, length=10_000), framed=False, slow=True),
}
"""By kind: what never comes to its end."""
SLOW = list(ATTACKS_SLOW)


BAD_INPUT = Fault(
    "bad-input",
    "bad input",
    "Hostile requests of a hundred kinds over sockets: broken HTTP, broken JSON, wrong values, floods, slow ones.",
    "Each is answered with a 4xx and a reason or closed, others notice nothing, the process lives, memory is flat.",
    "100,000 requests, 0 server errors",
    run,
    check,
)
