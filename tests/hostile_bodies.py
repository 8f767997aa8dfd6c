"""Requests that a service has to refuse and survive: endless, different each time, the same for the same seed.

They are made from one valid body, so they fit any use case. `hostile_bodies(document, seed)` draws kinds at random; `one_of_each` has
every kind once. A request that is only damaged at random may turn out to be valid, and says so in what is expected.
"""

import copy
import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

ACCEPTED = frozenset((200, 202))
BAD, TOO_LARGE, WRONG_MEDIA, UNUSABLE = frozenset((400,)), frozenset((413,)), frozenset((415,)), frozenset((422,))
EITHER = BAD | UNUSABLE
JSON = {"content-type": "application/json"}

BLANKS = ("", " ", "\n", "\t", "\r\n", "  ")
MARK = "\x01"
"""Stands in a document for a piece of text that no encoder would write."""


@dataclass(frozen=True)
class Hostile:
    """One request.

    Attributes:
        name: The kind.
        headers: Names in lower case; Content-Length and Authorization are for whoever sends it.
        body: As it goes over the wire.
        expected: The statuses that are a right answer to it.
    """

    name: str
    body: bytes
    expected: frozenset[int]
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)


Make = Callable[[Random, dict[str, Any]], tuple[bytes, frozenset[int]] | tuple[bytes, frozenset[int], Mapping[str, str]]]
KINDS: dict[str, Make] = {}
LARGE: set[str] = set()
"""Kinds whose bodies have up to a megabyte and more."""


def hostile_bodies(document: Mapping[str, Any], seed: int, *, large: bool = True) -> Iterator[Hostile]:
    """Without an end.

    Args:
        document: A valid body.
        seed: The same gives the same.
        large: Whether the kinds of `LARGE` are among them.
    """
    random = Random(seed)
    names = [name for name in KINDS if large or name not in LARGE]
    while True:
        yield _made(random.choice(names), random, document)


def one_of_each(document: Mapping[str, Any], seed: int) -> list[Hostile]:
    """Every kind once."""
    random = Random(seed)
    return [_made(name, random, document) for name in KINDS]


def _made(name: str, random: Random, document: Mapping[str, Any]) -> Hostile:
    body, expected, *headers = KINDS[name](random, copy.deepcopy(dict(document)))
    return Hostile(name, body, expected, *headers)


def _kind(make: Make) -> Make:
    KINDS[make.__name__.strip("_")] = make
    return make


def _large(make: Make) -> Make:
    LARGE.add(make.__name__.strip("_"))
    return _kind(make)


# --- Tools ------------------------------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _bytes(value: object) -> bytes:
    return _text(value).encode()


def _objects(value: object) -> list[dict[str, Any]]:
    """Every object in a document, from the outside in."""
    if isinstance(value, dict):
        return [value, *(inner for each in value.values() for inner in _objects(each))]
    return [inner for each in value for inner in _objects(each)] if isinstance(value, list) else []


def _with(random: Random, document: dict[str, Any], text: str) -> bytes:
    """The document with this text in the place of one of its values."""
    place = random.choice(_objects(document))
    place[random.choice(list(place))] = MARK
    return _text(document).replace(_text(MARK), text).encode("utf-8", "surrogatepass")


def _is_moment(value: object) -> bool:
    return isinstance(value, str) and re.match("20..-..-..T", value) is not None


def _items(document: dict[str, Any], count: int) -> dict[str, Any]:
    items = document.get("items", [document])
    return {"items": (items * (count // len(items) + 1))[:count]}


# --- Not JSON ---------------------------------------------------------------------------------------------------------------------


@_kind
def _empty(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    return random.choice(BLANKS).encode() * random.randrange(3), BAD


@_kind
def _truncated(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    body = _bytes(document)
    return body[: random.randrange(1, len(body))], BAD


@_kind
def _followed(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    return _bytes(document) + random.choice((b"\0", b"x", b"{}", b" ]", b",", _bytes(document), b"\xff")), BAD


@_kind
def _not_utf_8(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    body = _bytes(document)
    at = random.randrange(len(body))
    return body[:at] + random.choice((b"\xff", b"\x80", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80")) + body[at:], BAD


@_kind
def _another_encoding(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    return _text(document).encode(random.choice(("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "utf-8-sig"))), BAD


@_kind
def _compressed_in_secret(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    return gzip.compress(_bytes(document), mtime=0), BAD


@_kind
def _javascript(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    text = _text(document)
    return random.choice((text.replace('"', "'"), text[:-1] + ",}", "/**/" + text, text + "//", "(" + text + ")")).encode(), BAD


@_kind
def _control_characters(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    return _with(random, document, f'"a{chr(random.randrange(32))}b"'), BAD


@_kind
def _strange_numbers(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    return _with(random, document, random.choice(("0x10", "01", "1.", ".5", "+1", "1e", "--1", "1_0", "1" + "0" * 5000))), BAD


@_kind
def _deep(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    opening, closing = random.choice((("[", "]"), ('{"a":', "}"), ('{"items":[', "]}")))
    depth = random.choice((300, 1_000, 10_000))
    nest = opening * depth + random.choice(("", "0" + closing * depth))
    return random.choice((nest.encode(), _with(random, document, nest))), BAD


@_kind
def _random_bytes(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    return random.randbytes(random.randrange(1, 300)), EITHER


# --- JSON, and wrong --------------------------------------------------------------------------------------------------------------


@_kind
def _no_object(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    return random.choice((b"null", b"true", b"7", b'"text"', b"[]", b"{}", b"NaN", _bytes([document]))), UNUSABLE


@_kind
def _another_type(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    return _with(random, document, random.choice(("[]", "{}", "[[]]", '[{"a":1}]', "[null]"))), UNUSABLE


@_kind
def _no_number(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    return _with(random, document, random.choice(("NaN", "Infinity", "-Infinity"))), EITHER


@_kind
def _huge_number(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    return _with(random, document, random.choice(("1e999", "-1e999", "1" + "0" * 400, "-1" + "0" * 400, str(2**64), "1e308"))), EITHER


@_kind
def _digits_for_a_moment(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    """Pydantic would take some of these; there has to be a moment in the document."""
    place, name = random.choice([(each, name) for each in _objects(document) for name, value in each.items() if _is_moment(value)])
    place[name] = random.choice(("1372685400", "1372685400.5", "20130701T133000Z", "2013-07-01", "2013-07-01T13:30:00", 1372685400))
    return _bytes(document), UNUSABLE


@_kind
def _long_text(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    return _with(random, document, _text(random.choice("xÜ\U0001f600") * 10_000)), UNUSABLE


@_kind
def _null_character(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    return _with(random, document, '"a\\u0000b"'), UNUSABLE


@_kind
def _lone_surrogate(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    half = random.choice(("\\ud800", "\\udfff", "\\ud800\\ud800", "\\udc00\\ud800"))
    if random.random() < 0.5:
        return _with(random, document, f'"{half}"'), EITHER
    return f'{{"{half}": 1, {_text(document)[1:]}'.encode(), EITHER


@_kind
def _stranger(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    random.choice(_objects(document))[random.choice(("__proto__", "", "x" * 10_000, "a.b", "Ü", "$ref", "id\n"))] = 1
    return _bytes(document), UNUSABLE


@_kind
def _twice(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    """A key is there twice, at any level, with the same value or another, perhaps written in another way."""
    place = random.choice(_objects(document))
    name = random.choice(list(place))
    place[MARK] = random.choice((place[name], None, 1))
    key = random.choice((_text(name), '"' + "".join(f"\\u{ord(letter):04x}" for letter in name) + '"'))
    return _text(document).replace(_text(MARK) + ":", key + random.choice(BLANKS) + ":").encode(), UNUSABLE


@_kind
def _number_of_items(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    wrong = random.choice(({"items": []}, {"items": None}, {"items": {}}, {"items": [None]}, {"items": [[document]]}))
    return _bytes(wrong), UNUSABLE


@_large
def _too_many_items(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    return _bytes(_items(document, 1001)), UNUSABLE


@_large
def _many_wrong_items(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    return b'{"items":[' + b",".join([random.choice((b"0", b"{}", b"[]", b'{"a":1}'))] * random.randrange(1000, 120_000)) + b"]}", UNUSABLE


@_large
def _many_strangers(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    random.choice(_objects(document)).update((f"{i:x}", 0) for i in range(random.randrange(100, 80_000)))
    return _bytes(document), UNUSABLE


@_large
def _large_body(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    return random.choice((b" ", b"[", b"\0", b'"')) * (1024 * 1024 + random.randrange(1, 4096)), TOO_LARGE


# --- Headers ----------------------------------------------------------------------------------------------------------------------


@_kind
def _media_type(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int], Mapping[str, str]]:
    said = random.choice(("", "text/plain", "application/jsonp", "application/json; charset=utf-16", "multipart/form-data", "x" * 2000))
    return _bytes(document), WRONG_MEDIA, {"content-type": said} if said else {}


@_kind
def _compressed(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int], Mapping[str, str]]:
    return gzip.compress(_bytes(document), mtime=0), WRONG_MEDIA, JSON | {"content-encoding": random.choice(("gzip", "br", "GZIP, gzip"))}


@_kind
def _request_id(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int], Mapping[str, str]]:
    return _bytes(document), UNUSABLE, JSON | {"x-request-id": random.choice(("a b", "x" * 129, "\xe4", '"\t"'))}


# --- Damage -----------------------------------------------------------------------------------------------------------------------


@_kind
def _damaged(random: Random, document: dict[str, Any]) -> tuple[bytes, frozenset[int]]:
    """Some bytes are others, or gone, or there twice."""
    body = bytearray(_bytes(document))
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(body))
        body[at : at + random.randrange(3)] = random.choice((b"", random.randbytes(1), body[at : at + 9], b'"', b"}", b"9"))
    return bytes(body), EITHER | ACCEPTED
