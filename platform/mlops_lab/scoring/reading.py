"""Reading a forest from bytes that nobody vouches for: every key, type, size and index is checked, nothing is executed."""

import json
import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NoReturn

from mlops_lab.errors import ScorerRefused
from mlops_lab.features.view import Feature, Kind
from mlops_lab.scoring.forest import (
    BEFORE_TREES,
    FORMAT,
    LINK_LIMIT,
    MAX_BYTES,
    MAX_CODES,
    MAX_FEATURES,
    MAX_HEAD_BYTES,
    MAX_LEAVES,
    MAX_NAMES,
    MAX_TEXT,
    MAX_TREE_BYTES,
    MAX_TREES,
    Forest,
    Node,
    Split,
    Tree,
    canonical,
)

_NOT_CANONICAL = "it is not in canonical form (sorted keys, no spaces, each key once)"


def read_forest(content: bytes, rest: Callable[[], None] = lambda: None) -> Forest:
    """Parse and validate a scorer file, piece by piece, so that no step is long: first what comes before the trees, then each tree.

    Args:
        content: The file.
        rest: Called after each piece, for other threads to have their turn.

    Raises:
        ScorerRefused: The file is anything but the canonical form of a well-formed forest; the message names the place.
    """
    if len(content) > MAX_BYTES:
        _refuse(f"the file has {len(content)} bytes, at most {MAX_BYTES} are read")
    end = content.find(BEFORE_TREES, 0, MAX_HEAD_BYTES)
    if end < 0:
        _refuse(f"it does not begin with at most {MAX_HEAD_BYTES} bytes of features and categories, the format '{FORMAT}', then trees")
    head = content[:end] + b"}"
    document, parsed = _parsed(head, "what comes before the trees")
    rest()
    top = _exactly(document, {"features", "categories", "baseline"}, "what comes before the trees")
    features = _features(top["features"])
    categories = _categories(top["categories"], features)
    baseline = _log_odds(top["baseline"], "baseline")
    rest()
    if parsed != len(head) or canonical(document) != head:
        _refuse(_NOT_CANONICAL)
    rest()
    codes = [1 + max(categories[f.name].values(), default=-1) if f.kind is Kind.CATEGORY else None for f in features]
    return Forest(features, categories, baseline, tuple(_trees(content, end + len(BEFORE_TREES), codes, rest)))


def _trees(content: bytes, at: int, codes: list[int | None], rest: Callable[[], None]) -> Iterator[Tree]:
    for i in range(MAX_TREES):
        where, window = f"trees[{i}]", content[at : at + MAX_TREE_BYTES]
        raw, length = _parsed(window, where)
        yield _tree(raw, codes, where)
        if canonical(raw) != window[:length]:
            _refuse(_NOT_CANONICAL)
        rest()
        at += length
        if content[at : at + 1] != b",":
            if content[at : at + 3] != b"]}":
                _refuse(f"{where} is followed by neither another tree nor the end of the file")
            return
        at += 1
    _refuse(f"it has more than {MAX_TREES} trees")


def _parsed(content: bytes, where: str) -> tuple[object, int]:
    """The JSON value that the bytes begin with, and how many of them it takes."""
    try:
        return _DECODER.raw_decode(content.decode("ascii"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise _refused(f"{where} is not JSON, or longer than allowed ({type(error).__name__})") from error


def _refused(why: str) -> ScorerRefused:
    return ScorerRefused(f"The scorer file was refused: {why}.", "find out who wrote it; publish the version again with `lab train`.")


def _refuse(why: str) -> NoReturn:
    raise _refused(why)


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a finite number")


def _exactly(value: object, keys: set[str], where: str) -> dict[str, object]:
    if not isinstance(value, dict) or set(value) != keys:
        _refuse(f"{where} must hold exactly the keys {', '.join(sorted(keys))}")
    return value


def _list(value: object, where: str, limit: int) -> list[object]:
    if not isinstance(value, list) or not 1 <= len(value) <= limit:
        _refuse(f"{where} must be a list of 1 to {limit} entries")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        _refuse(f"{where} must be a text of at most {MAX_TEXT} characters")
    return value


def _log_odds(value: object, where: str) -> float:
    if type(value) is not float or not abs(value) <= LINK_LIMIT:  # written so that NaN fails too
        _refuse(f"{where} must be a decimal number between -{LINK_LIMIT:g} and {LINK_LIMIT:g}")
    return value


def _index(value: object, limit: int, where: str) -> int:
    if type(value) is not int or not 0 <= value < limit:  # type(): True is an int to isinstance
        _refuse(f"{where} must be a whole number from 0 to {limit - 1}")
    return value


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _features(value: object) -> tuple[Feature, ...]:
    features = []
    for i, entry in enumerate(_list(value, "features", MAX_FEATURES)):
        where = f"features[{i}]"
        text = {key: _text(found, f"{where}.{key}") for key, found in _exactly(entry, {"name", "kind", "unit", "meaning"}, where).items()}
        if text["kind"] not in tuple(Kind) or not text["name"]:
            _refuse(f"{where} needs a name and one of the kinds {', '.join(Kind)}")
        features.append(Feature(text["name"], Kind(text["kind"]), text["unit"], text["meaning"]))
    if len({feature.name for feature in features}) != len(features):
        _refuse("two features have the same name")
    return tuple(features)


def _categories(value: object, features: tuple[Feature, ...]) -> dict[str, dict[str, int]]:
    names = {feature.name for feature in features if feature.kind is Kind.CATEGORY}
    known: dict[str, dict[str, int]] = {}
    for feature, entry in _exactly(value, names, "categories").items():
        where = f"categories of '{feature}'"
        if not isinstance(entry, dict) or len(entry) > MAX_NAMES:
            _refuse(f"{where} must be at most {MAX_NAMES} names with their codes")
        codes = {_text(name, where): _index(code, MAX_CODES, where) for name, code in entry.items()}
        if set(codes.values()) != set(range(len(set(codes.values())))):
            _refuse(f"{where} must use the codes 0, 1, 2, ... without a gap")
        known[feature] = codes
    return known


def _tree(value: object, codes: list[int | None], where: str) -> Tree:
    raw = _list(value, where, 2 * MAX_LEAVES - 1)
    nodes = tuple(_node(entry, i, len(raw), codes, f"{where}[{i}]") for i, entry in enumerate(raw))
    children = sorted(child for node in nodes if isinstance(node, Split) for child in (node.left, node.right))
    if children != list(range(1, len(nodes))):
        _refuse(f"{where}: every node but the first must be the child of exactly one other")
    return nodes


def _node(value: object, at: int, nodes: int, codes: list[int | None], where: str) -> Node:
    if not isinstance(value, list):
        return _log_odds(value, where)
    if len(value) != 5:
        _refuse(f"{where} must be a number or [feature, test, missing_left, left, right]")
    feature = _index(value[0], len(codes), f"{where} feature")
    missing_left = _index(value[2], 2, f"{where} missing_left") == 1
    left, right = _index(value[3], nodes, f"{where} left"), _index(value[4], nodes, f"{where} right")
    if min(left, right) <= at:
        _refuse(f"{where}: a child must come after its parent")
    known = codes[feature]
    if known is None:
        return Split(feature, _threshold(value[1], where), None, missing_left, left, right)
    if not isinstance(value[1], list) or len(value[1]) > MAX_CODES:
        _refuse(f"{where} asks about a category, so its test must be a list of codes")
    chosen = tuple(_index(code, known, f"{where} code") for code in value[1])
    if any(a >= b for a, b in pairwise(chosen)):
        _refuse(f"{where}: codes must be ascending")
    return Split(feature, None, chosen, missing_left, left, right)


def _threshold(value: object, where: str) -> float | None:
    if value is None:
        return None
    if type(value) is not float or not math.isfinite(value):
        _refuse(f"{where} asks about a number, so its test must be a finite decimal number or null")
    return value
