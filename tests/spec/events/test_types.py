"""The types of events of this platform: everything that is published has one, and it is whole."""

import ast
import importlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import mlops_lab
from flight_builders import a_year, departed, messages_of
from mlops_lab.bootstrap.events import event_types
from mlops_lab.events import Message
from mlops_lab.events.schema import EventType
from mlops_lab.events.topics import TOPICS
from mlops_lab.flights.online_usecase import FlightsOnline
from mlops_lab.pipelines.orders import IngestBatch, PromoteModel, TrainModel
from mlops_lab.pipelines.watch import FACTS_OF
from mlops_lab.registry.ledger import event_of
from mlops_lab.registry.on_sql import _EVENT_OF
from mlops_lab.registry.version import Role

TYPES = event_types(FlightsOnline())
PACKAGE = Path(mlops_lab.__file__).parent
AT = datetime(2013, 7, 1, 12, tzinfo=UTC)


CHOSEN_WHILE_RUNNING = {
    "pipelines/orders.py": {order.TYPE for order in (IngestBatch, TrainModel, PromoteModel)},
    "pipelines/watch.py": set(FACTS_OF.values()),
    "chaos/buses.py": {"WeatherObserved"},
    "registry/on_sql.py": {
        "ModelRegistered",
        *_EVENT_OF.values(),
        *(event_of(role, kind) for role in Role for kind in ("promotion", "rollback", "override")),
    },
    "events/message.py": set(),
    "events/on_sqlite.py": set(),
    "events/on_kafka.py": set(),
}
"""Modules that make messages whose type is no constant, with all the types that it can be; what is only read back has none."""


def made() -> Iterator[tuple[str, ast.expr]]:
    """Every place in the platform's code that makes a message, with the expression for its type."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Message":
                kind = node.args[0] if node.args else next(word.value for word in node.keywords if word.arg == "type")
                yield path.relative_to(PACKAGE).as_posix(), kind


def published() -> Iterator[tuple[str, str]]:
    """Every type that the platform's code can publish, with the module that does."""
    for module, kind in made():
        if isinstance(kind, ast.Constant):
            yield module, str(kind.value)
            continue
        known = vars(importlib.import_module(f"mlops_lab.{module.removesuffix('.py').replace('/', '.')}"))
        found = eval(compile(ast.Expression(kind), module, "eval"), dict(known)) if _is_constant(kind, known) else None
        if isinstance(found, str):
            yield module, found
        else:
            assert module in CHOSEN_WHILE_RUNNING, f"{module} makes messages of type `{ast.unparse(kind)}`: say which these can be"
            yield from ((module, name) for name in CHOSEN_WHILE_RUNNING[module])


def _is_constant(kind: ast.expr, known: dict[str, Any]) -> bool:
    begin = kind.value if isinstance(kind, ast.Attribute) else kind
    return isinstance(begin, ast.Name) and begin.id in known


def test_every_type_that_is_published_has_a_schema() -> None:
    found = set(published())

    assert len(found) > 20
    assert {name for _, name in found if name not in TYPES} == set()


def test_every_schema_is_of_a_type_that_is_published() -> None:
    """OutcomeReported is made from what callers report; the others by name."""
    assert {each.name for each in TYPES} - {name for _, name in published()} <= {"OutcomeReported"}


@pytest.mark.parametrize("each", list(TYPES), ids=lambda each: each.name)
def test_a_type_is_whole(each: EventType) -> None:
    """It has a topic, a sentence, and an example that both the parser and its published JSON Schema take."""
    topic = each.topic if each.topic in TOPICS else "observations.dead"
    assert each.belongs_on(topic)
    assert each.meaning.endswith(".")
    jsonschema.Draft202012Validator.check_schema(each.json_schema())
    jsonschema.validate(dict(each.example), each.json_schema())
    probe = Message(each.name, AT, "EWR", dict(each.example))
    right = each.subject.of(probe) or "EWR"
    probe = replace(probe, subject=right)
    TYPES.checked(replace(probe, partition_key=each.key.of(probe) or "", version=each.version), topic)


@pytest.mark.parametrize("each", list(TYPES), ids=lambda each: each.name)
def test_parser_and_json_schema_refuse_the_same(each: EventType) -> None:
    """Each field left out, null, of another type; and a field too many."""
    validator = jsonschema.Draft202012Validator(each.json_schema())
    data = dict(each.example)
    spoilt = [{**data, "more": 1}]
    for name in data:
        spoilt += [{key: value for key, value in data.items() if key != name}]
        spoilt += [data | {name: value} for value in (None, "", "x" * 500, -1, 1.5, True, [], {}, ["x"], 10**30)]
    for one in spoilt:
        try:
            each.validator.validate_python(one)
            takes = True
        except ValueError:
            takes = False
        assert takes == validator.is_valid(one), one


def test_the_schema_of_a_message_is_the_one_it_names() -> None:
    [fact] = messages_of(a_year([departed(AT, 5)]))

    assert fact.dataschema == TYPES.named(fact.type).json_schema()["$id"]
