"""Hostile requests of a hundred kinds, as bytes: wrong values, bodies that are none, broken HTTP, several at once, slow ones."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


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
